"""The input of generation: a model, a request, and the prepared request. Plain data.

A :class:`ChatRequest` is what a client asks for, a :class:`PreparedChat` what will be done
about it. Knows no HTTP and runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter, time
from types import MappingProxyType
from typing import Any, Literal
from uuid import uuid4

from extracot.card import BudgetCard
from extracot.control import DEFAULT_RATIOS
from extracot.prompt import Message, PromptRenderer, RenderedPrompt
from extracot.reasoning import ThinkTags
from extracot_server.admission.keys import ANONYMOUS, Principal
from extracot_server.budget.holdout import Arm, Excluded
from extracot_server.budget.limits import Limits
from extracot_server.budget.resolve import (
    BudgetKind,
    BudgetPolicy,
    BudgetSources,
    ResolvedBudget,
    offered_levels,
    policy_level,
)
from extracot_server.config.offers import Offers
from extracot_server.engine.base import AnswerFormat, Engine, SamplingParams
from extracot_server.generation.answer_formats import CallChoice
from extracot_server.generation.closing import BARE, Closing
from extracot_server.generation.defaults import ReplyDefaults
from extracot_server.generation.detokenize import DetokenizerFactory
from extracot_server.generation.token_rate import TokenRate
from extracot_server.generation.trial import Trial
from extracot_server.ledger.meter import Account
from extracot_server.profiles.profile import UNKNOWN, Profile
from extracot_server.tool_calls.tools import CallReaderFactory, ToolUse

# A second request of the same choice must not replay the first one's random numbers.
SEED_STEP = 1_000_003
UNFINISHED = {"aborted": "disconnect", "error": "engine", "dropped": "shutdown"}
"""Outcomes of requests whose reply never became whole, and the reason `aborts` has for them."""


def shift_seed(sampling: SamplingParams, by: int) -> SamplingParams:
    """The same settings with another seed of 32 bits, where one is set."""
    if sampling.seed is None:
        return sampling
    return replace(sampling, seed=(sampling.seed + by) % 2**32)


@dataclass(slots=True)
class RequestTimes:
    """Wall-clock marks of one request, in seconds of ``perf_counter``; 0.0 means not yet."""

    start: float = field(default_factory=perf_counter)
    resolved: float = 0.0
    queued: float = 0.0
    admitted: float = 0.0
    first_token: float = 0.0
    first_answer: float = 0.0
    previous: float = 0.0
    overhead: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelRuntime:
    """The parts of a served model that replies are made with."""

    engine: Engine
    renderer: PromptRenderer
    tags: ThinkTags
    new_detokenizer: DetokenizerFactory
    control_ids: frozenset[int]
    new_plain_detokenizer: DetokenizerFactory
    """Also shows special tokens, by which some models mark their tool calls."""
    new_call_reader: CallReaderFactory | None = None
    """Reads the calls that this model writes by itself; ``None``: no tool parser is configured."""
    call_opener: str | None = None
    """What calls begin with; ``None``: not known of that parser."""
    tokenizer_hash: str = ""
    instruction: str | None = None
    system_prompt: str | None = None
    """What the renderer was made with, for those who write a card."""
    profile: Profile = UNKNOWN
    """What is known of the model's family."""
    ending_ids: frozenset[int] = frozenset()
    """Ids that end a block besides its tag, where there are tools: calls begin with them."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as it is served: engine, card (``None``: cap mode), renderer and policy."""

    name: str
    runtime: ModelRuntime
    card: BudgetCard | None
    policy: BudgetPolicy
    open_think: bool = False
    closing: Closing = BARE
    """What ends a block that is cut off, where a request does not say."""
    loop_tokens: int = 0
    """How long a loop in the block may become before it is closed; 0: as long as it likes."""
    assumes_setting: bool = False
    """Cap mode: the assumed baseline is a setting's, not the profile's or the default."""
    defaults: ReplyDefaults = field(default_factory=ReplyDefaults)
    created: int = field(default_factory=lambda: int(time()))
    offers: Offers | None = None
    """What its server can be asked for, where that is asked by chat messages; ``None``: its engine
    takes token ids."""
    rate: TokenRate = field(default_factory=TokenRate)
    """What that server's replies have shown of its chunks."""

    @property
    def mode(self) -> Literal["token", "cap"]:
        """Whether budgets are trained levels or caps."""
        return "cap" if self.card is None or not self.card.is_trained else "token"

    @property
    def aliases(self) -> tuple[str, ...]:
        """Its names with a budget, for lists; any other ratio is one, too, and is served as
        ``budget`` would be: a level that is dominated has none of its own."""
        names = [str(ratio) for ratio in DEFAULT_RATIOS]
        if self.card is not None:
            offered = offered_levels(self.card, BudgetPolicy())
            names = [str(level.ratio) for level in offered if level.ratio is not None]
        words = [] if policy_level(self.card) is None else ["auto"]
        words += ["native", *(["none"] if self.policy.can_skip else [])]
        return tuple(f"{self.name}@{name}" for name in [*names, *words])


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A validated chat request. ``max_tokens`` bounds generated tokens; ``None``: the context.

    ``messages_field`` is what its API calls the conversation, for errors.
    """

    request_id: str
    messages: tuple[Message, ...]
    budget: BudgetSources = field(default_factory=BudgetSources)
    sampling: SamplingParams = field(default_factory=SamplingParams)
    n: int = 1
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    answer_format: AnswerFormat | None = None
    with_instruction: bool = True
    principal: Principal = ANONYMOUS
    ignored_fields: tuple[str, ...] = ()
    tools: ToolUse | None = None
    messages_field: str = "messages"
    asked_model: str | None = None
    """The model's name as the client wrote it, alias and all; the reply repeats it."""
    template_variables: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Variables of the chat template that the client set."""

    def own_field(self, field: str | None) -> str | None:
        """What this request's API calls a field that an engine names as a chat has it."""
        form = self.answer_format
        if field == "response_format" and form is not None and not form.field.startswith(field):
            return form.field
        return self.messages_field if field == "messages" else field


@dataclass(frozen=True, slots=True)
class PreparedChat:
    """A request that may go to the engine, and the limits that it runs within."""

    request: ChatRequest
    model: ServedModel
    resolved: ResolvedBudget
    rendered: RenderedPrompt
    limits: Limits
    limits_for: partial[Limits]
    """The limits once an ``auto`` request has chosen its ``level=``."""
    control_token: str | None
    arm: Arm | None
    times: RequestTimes
    like_card: bool
    """The card's figures are of prompts like this one."""
    closing: Closing = BARE
    account: Account = field(default_factory=Account)
    excluded: Excluded | None = None
    """Why it has no part in the holdout, where a budget applies."""
    trial: Trial | None = None
    """Its part in the model's canary, where there is one."""
    call_choice: CallChoice | None = None
    """With tools and a format: how the model chooses between calls and an answer."""

    @property
    def most_tokens(self) -> int:
        """What it may take at most: its prompt, and all that each of its choices may generate."""
        return self.prompt_tokens + self.request.n * self.limits.max_tokens

    @property
    def prompt_tokens(self) -> int:
        """Tokens of its prompt: about as many, where a server counts them that is asked by chat
        messages."""
        return len(self.rendered.prompt_ids)

    def new_reply_id(self) -> str:
        """An id of one reply for ever: the request's, which a client may send again, and more."""
        return f"{self.request.request_id}-{uuid4().hex[:12]}"

    @property
    def reply_model(self) -> str:
        """The model's name in the reply."""
        return self.request.asked_model or self.model.name

    @property
    def calibrated(self) -> bool:
        """Whether the card's figures hold: those of a level, for a prompt like its problems."""
        card, resolved = self.model.card, self.resolved
        level = resolved.level is not None or resolved.kind is BudgetKind.AUTO
        return card is not None and card.is_calibrated and level and self.like_card
