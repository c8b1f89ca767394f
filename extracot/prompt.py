"""The only renderer: messages and a control become token ids, for training and serving alike.

Added tokens (control, template and think tokens) come from the template and from here, never
from a message: what a client or a problem says is text, however it is spelled.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from types import MappingProxyType
from typing import Any

from extracot.control import Control, ControlKind
from extracot.conversation import Fields, Message, Role, ToolCall, Turn, read_messages
from extracot.errors import ControlTokenError, PromptError
from extracot.fitting import fit
from extracot.opening import Opening, split_opening
from extracot.prompt_ids import Piece, PromptEncoder
from extracot.reasoning import ThinkTags
from extracot.switches import FIELD as SWITCHES_FIELD
from extracot.switches import check_switches
from extracot.template import ChatTemplate
from extracot.template_traits import TemplateTraits, find_traits
from extracot.tokens import TextEncoder, Tokenizer
from extracot.tool_text import Slot

__all__ = [
    "Fields",
    "Message",
    "PromptRenderer",
    "RenderedPrompt",
    "Role",
    "ThinkTags",
    "Tokenizer",
    "ToolCall",
]


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt and the beginning of its reply, as token ids.

    ``prompt_ids`` reach up to and with the template's generation prompt, and what it opens by
    itself; ``prefill_ids`` is the part of the reply that is written for the model (level token,
    tags, line breaks). ``in_reasoning``: generation starts inside the think block.
    """

    prompt_ids: tuple[int, ...]
    prefill_ids: tuple[int, ...]
    in_reasoning: bool

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Everything the engine continues."""
        return self.prompt_ids + self.prefill_ids


class PromptRenderer:
    """Renders conversations for one tokenizer; see :class:`~extracot.control.Control`.

    ``instruction`` precedes the last user message, ``system_prompt`` stands in where the client
    begins with no system message, and ``control_tokens`` are protected from being spelled in a
    message even where the tokenizer holds them as ordinary tokens. A template that writes the date
    is told ``day``, or today, whenever it renders.

    Raises :class:`ControlTokenError` if one of ``control_tokens`` is not exactly one id.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        tags: ThinkTags | None = None,
        instruction: str | None = None,
        system_prompt: str | None = None,
        control_tokens: Collection[str] = (),
        day: date | None = None,
    ) -> None:
        self.tags = tags if tags is not None else ThinkTags()
        self._instruction = instruction
        self._system_prompt = system_prompt
        self._control_tokens = tuple(control_tokens)
        self._eos_id = tokenizer.eos_token_id
        self._template = ChatTemplate(tokenizer, day)
        self._encoder = TextEncoder(
            tokenizer, reserved=(*self._control_tokens, self.tags.start, self.tags.end)
        )
        self._openings: dict[ControlKind, Opening] = {}
        self._prompt = PromptEncoder(self._encoder, self.tags)
        self.think_start_id = self._prompt.tag_ids[self.tags.start]
        self.think_end_id = self._prompt.tag_ids[self.tags.end]
        self._trusted = self._prompt.trusted
        self.close_ids = self._trusted(self.tags.closes)
        for token in self._control_tokens:
            self._control_id(token)

    @property
    def single_id_tags(self) -> bool:
        """Both think tags are one id each."""
        return self.think_start_id is not None and self.think_end_id is not None

    @property
    def protected_ids(self) -> frozenset[int]:
        """The ids that no message can produce."""
        return self._encoder.protected_ids

    @property
    def opens_reasoning(self) -> bool:
        """The template's generation prompt opens the think block by itself.

        Raises :class:`PromptError` if the tokenizer has no chat template that takes a user
        message, which makes it a check to do at start-up.
        """
        return self._usual_opening(Control.native()).opened

    @cached_property
    def traits(self) -> TemplateTraits:
        """What the chat template's own variables do, and which earlier reasoning it keeps."""
        return find_traits(self._template)

    @property
    def takes_tools(self) -> bool:
        """The chat template has a place for the definitions of tools."""
        return self._template.takes_tools

    @property
    def takes_calls(self) -> bool:
        """The chat template has a place for calls, and for what they return."""
        return self._template.takes_calls

    def render(
        self,
        messages: Sequence[Message],
        control: Control,
        *,
        with_instruction: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
        field: str = "messages",
        switches: Mapping[str, Any] = MappingProxyType({}),
        by_default: bool = False,
    ) -> RenderedPrompt:
        """Token ids of a conversation, and of the start of its reply.

        The user's last message becomes: instruction, line break, text, and for LEVEL and POLICY a
        space and the token, which ends the last turn that is rendered as the user's. Earlier turns
        are rendered without any of that. Calls, answers of tools and system messages may follow.
        :mod:`extracot.fitting` says what becomes of turns that the template refuses as they are.
        ``tools`` are definitions in OpenAI's form. ``field`` names the conversation in errors.
        ``switches`` are variables of the template's own, and their values: they go before what
        turns reasoning on for NATIVE and OPEN, and behind what turns it off for NONE.
        ``by_default`` leaves a NATIVE prompt as the template has it for whoever says nothing.

        Raises :class:`PromptError` with the ``field`` at fault: no messages, none of the user's,
        an unknown role, a last message that is an assistant's, a content that is no valid Unicode
        or, in the user's last, empty, messages or tools that the template refuses in any form,
        a switch that is none (:func:`~extracot.switches.check_switches`).
        Raises :class:`ControlTokenError` if the control's token is not one id.
        """
        self._check_switches(switches)
        said, own_system = self._turns(messages, with_instruction, field)
        if not (by_default and control.kind is ControlKind.NATIVE):
            switches = self._switches(control, switches)
        turns, layout = fit(self._template, said, tools, field, own_system, switches)
        turns = self._controlled(turns, control)
        *parts, last = layout
        before, opening = split_opening(last, self.tags)
        keep_block, prefill, in_reasoning = self._reply_start(control, opening)
        pieces: list[Piece] = []
        for part in parts:
            pieces += self._said(turns[part]) if isinstance(part, int) else part
        end = opening.base + (opening.block if keep_block else "")
        ids = self._prompt.encode([*pieces, *before, end])
        return RenderedPrompt(tuple(ids), prefill, in_reasoning)

    def after_choice(self, rendered: RenderedPrompt, level_token: str) -> RenderedPrompt:
        """A POLICY prompt once the model has picked ``level_token``: step 2 of auto."""
        return replace(rendered, prefill_ids=self._level_prefill(level_token), in_reasoning=True)

    def reply_ids(
        self,
        control: Control,
        reasoning: str | None,
        answer: str,
        *,
        level_token: str | None = None,
    ) -> tuple[int, ...]:
        """A whole reply, for training: it begins with what ``render`` would prefill.

        ``level_token`` is the choice to teach with POLICY. White space around ``reasoning`` and
        ``answer`` is dropped, so that every row has one layout. ``reasoning=None`` is a reply
        without a think block, which only NONE (always) and NATIVE allow.

        Raises :class:`PromptError` for a reasoning that the control forbids or lacks, and where
        the tokenizer has no end token; :class:`ControlTokenError` for a wrong level token.
        """
        if self._eos_id is None:
            raise PromptError("the tokenizer has no end token to close a reply with")
        if (level_token is not None) != (control.kind is ControlKind.POLICY):
            raise ControlTokenError("a level token goes with the policy control, and only with it")
        if control.kind is ControlKind.NONE and reasoning is not None:
            raise PromptError("control 'none' has no reasoning", field="reasoning")
        if reasoning is None and control.kind not in (ControlKind.NONE, ControlKind.NATIVE):
            raise PromptError(f"control {control.kind.value!r} needs one", field="reasoning")
        if level_token is not None:
            ids, inside = list(self._level_prefill(level_token)), True
        else:
            _, prefill, inside = self._reply_start(control, self._usual_opening(control))
            ids = list(prefill)
        if reasoning is not None and not inside:
            ids += self._trusted(self.tags.opens)
        if reasoning is not None:
            ids += self.encode_text(reasoning.strip(), "reasoning")
        if reasoning is not None or inside:
            ids += self.close_ids
        return (*ids, *self.encode_text(answer.strip(), "answer"), self._eos_id)

    def encode_text(
        self, text: str, field: str | None = None, *, beginning: bool = False
    ) -> list[int]:
        """Token ids of untrusted text: none of them is in ``protected_ids``.

        Raises :class:`PromptError`, with ``field``, for a text that is not valid Unicode.
        """
        return self._prompt.encode_text(text, field, beginning=beginning)

    def _turns(
        self, messages: Sequence[Message], with_instruction: bool, field: str
    ) -> tuple[list[Turn], bool]:
        """What was said, and whether it begins with our own system prompt."""
        turns = read_messages(messages, self.tags, self._control_tokens, field)
        at = max(index for index, turn in enumerate(turns) if turn.role is Role.USER)
        if with_instruction and self._instruction:
            turns[at] = turns[at]._replace(text=f"{self._instruction}\n{turns[at].text}")
        if turns[0].role is Role.SYSTEM or not self._system_prompt:
            return turns, False
        own = Turn(Role.SYSTEM, self._system_prompt, "system_prompt", "system_prompt")
        return [own, *turns], True

    def _controlled(self, turns: list[Turn], control: Control) -> list[Turn]:
        """The turns, with the control's token at the end of the user's last one."""
        if control.token is not None:
            at = max(index for index, turn in enumerate(turns) if turn.role is Role.USER)
            token_id = self._control_id(control.token)
            turns[at] = turns[at]._replace(text=f"{turns[at].text} ", token_id=token_id)
        return turns

    def _check_switches(self, switches: Mapping[str, Any]) -> None:
        check_switches(switches)
        for name, value in switches.items():
            if isinstance(value, str) and not self.protected_ids.isdisjoint(self._trusted(value)):
                field = f"{SWITCHES_FIELD}.{name}"
                raise PromptError("must not hold a token of the template's", field=field)

    def _switches(self, control: Control, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The template's variables for a control; those that say whether to reason follow it."""
        traits = self.traits
        match control.kind:
            case ControlKind.NATIVE | ControlKind.OPEN:
                return {**traits.on, **given}
            case ControlKind.NONE if traits.off is not None:
                others = {n: value for n, value in given.items() if n not in traits.on_off}
                return {**others, **traits.off}
            case _:
                return given

    def _usual_opening(self, control: Control) -> Opening:
        """What the generation prompt of a question says of reasoning under a control."""
        found = self._openings.get(control.kind)
        if found is None:
            layout = self._template.layout([Role.USER.value], self._switches(control, {}))
            found = self._openings[control.kind] = split_opening(layout[-1], self.tags)[1]
        return found

    def _reply_start(
        self, control: Control, opening: Opening
    ) -> tuple[bool, tuple[int, ...], bool]:
        """Whether what the template opens or closes is kept, the prefill, and ``in_reasoning``."""
        opened = opening.opened
        match control.kind:
            case ControlKind.LEVEL:
                return False, self._level_prefill(control.token or ""), True
            case ControlKind.POLICY:
                return False, (), False
            case ControlKind.NATIVE:
                return True, (), opened
            case ControlKind.OPEN:
                prefill = () if opened else self._trusted(self.tags.opens)
                return opened, prefill, True
            case ControlKind.NONE if opened:
                return True, self.close_ids, False
            case ControlKind.NONE if opening.closed or self.traits.off is not None:
                return True, (), False
            case ControlKind.NONE:
                return False, self._trusted(self.tags.skips), False

    def _said(self, turn: Turn) -> Iterator[Piece]:
        """A turn's text at its place in a prompt, and the token that ends it."""
        text = self._template.trim(turn.role.value, turn.text, tail=turn.token_id is None)
        yield Slot(text, turn.content_field)
        if turn.token_id is not None:
            yield turn.token_id

    def _level_prefill(self, token: str) -> tuple[int, ...]:
        level = (self._control_id(token),)
        return level + self._trusted(f"\n{self.tags.start}\n", self._encoder.is_beginning(level))

    def _control_id(self, token: str) -> int:
        id_ = self._encoder.single_id(token)
        if id_ is None:
            raise ControlTokenError(f"{token} is not exactly one id in this tokenizer")
        if id_ not in self.protected_ids:
            raise ControlTokenError(f"{token} is an ordinary token: name it in control_tokens")
        return id_
