"""The engine protocol: token ids in, token ids out.

An engine does not know budgets, reasoning blocks, text or HTTP. Hard caps, the two steps of
``auto``, stop strings, detokenising and counting all live in ``generation.service``, so
every engine gets them alike and exactly.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from extracot.errors import ExtracotError
from extracot.prompt import Tokenizer
from extracot_server.config.upstreams_file import UpstreamSettings
from extracot_server.engine.pace import Pace
from extracot_server.engine.said import Said


class EngineError(ExtracotError):
    """Root of everything an engine raises on purpose."""


class EngineStartError(EngineError):
    """The engine could not start; the message is one line fit for an operator."""


class EngineDeadError(EngineError):
    """The engine is gone: running and later requests fail until it is replaced."""


class EngineClosedError(EngineDeadError):
    """The engine was closed on purpose; what still ran has been dropped."""

    def __init__(self, message: str = "the engine was closed") -> None:
        super().__init__(message)


class DrainRefusedError(EngineError):
    """A server cannot be drained, or not taken back, by this call; one line that says why."""


class ReplyLostError(EngineError):
    """A reply broke off with whatever wrote it; the engine goes on and may be asked again."""


class FormatNotKeptError(ReplyLostError):
    """A server behind the engine wrote an answer that is not in the format asked for.

    ``param`` is the field of the request that asked for it.
    """

    def __init__(self, param: str) -> None:
        super().__init__(
            f"`{param}`: the server behind this model did not hold the answer to the format; "
            "send the request again."
        )
        self.param = param


class EngineRequestError(EngineError):
    """The engine refused this one request; ``param`` is the OpenAI field at fault, if known.

    ``code`` is what a client is told of it, for programs.
    """

    code = "invalid_value"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class PromptTooLongError(EngineRequestError):
    """A server behind the engine says that the prompt does not fit its model's context.

    Its words come behind those by which clients know the error, Anthropic's.
    """

    code = "context_length_exceeded"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        known = "prompt is too long"
        told = message if message.lower().startswith(known) else f"{known}: {message}"
        super().__init__(told, param=param or "messages")


class EngineRefusedError(EngineRequestError):
    """A server behind the engine refused this one request, by no fault of a field that is known.

    ``status`` is the HTTP status that it gave, 300 to 499; the message has its words. Redirects are
    among them: none is followed.
    """

    code = "upstream_refused"

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class EngineBusyError(EngineError):
    """The engine takes no more requests for now; ``retry_after`` are whole seconds, 1 or more."""

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


SCHEMA_FIELD = "response_format.json_schema.schema"
"""Where in a chat request the schema of an :class:`AnswerFormat` comes from."""
CALLS_FIELD = "tools"
"""The field of a request that a schema of a forced call comes from."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling settings in OpenAI's and vLLM's terms; ``None`` means the model's own default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float | None = None
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    """``None``: no log-probabilities; 0: those of the sampled token; k: also the k best."""
    min_tokens: int = 0
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """A grammar for everything the request generates (it is only set once reasoning is over)."""

    kind: Literal["json_object", "json_schema"]
    schema: Mapping[str, Any] | None = None
    field: str = SCHEMA_FIELD
    """Where in a request it comes from, for errors."""
    parts: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """The client's own schemas that ``schema`` is made of, with their fields; empty: it is one."""
    name: str | None = None
    description: str | None = None
    strict: bool | None = None
    """What the client says of its schema, for servers that read it; ``None``: nothing."""


def grammar_failure(wanted: AnswerFormat) -> EngineRequestError:
    """The grammar of a format gave up; asked again, it would do the same."""
    what = f"`{wanted.field}`: the grammar backend could not go on with this format."
    return EngineRequestError(what, param=wanted.field)


@dataclass(eq=False, slots=True)
class Placement:
    """Which of an engine's servers a reply belongs on: those of the canary, or the others.

    ``moved``: none of its own was to be had, so another one was asked.
    """

    canary: bool
    moved: bool = False


class Receiver(Protocol):
    """Who may take a reply's deltas at once, past whoever reads the engine's stream."""

    def take(self, delta: GenerationDelta, hold: float = 0.0) -> bool:
        """Whether it has taken the delta, which is not to be yielded then. Raises nothing.

        To be called only while the reader waits for the next delta. What it shows of several may
        come together for ``hold`` seconds.
        """


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One sequence to continue. ``token_ids`` is the whole context, prefilled reply included."""

    request_id: str
    token_ids: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop_token_ids: tuple[int, ...] = ()
    """Besides the model's own end tokens; the id that stopped is the last of the stream."""
    allowed_token_ids: tuple[int, ...] | None = None
    """Only these may be sampled; their log-probabilities are then reported with every token."""
    answer_format: AnswerFormat | None = None
    priority: int = 0
    """Lower is served first, where the engine schedules by priority."""
    adapter: str | None = None
    """A LoRA adapter of the engine's, by name; ``None``: the model itself."""
    placement: Placement | None = None
    """For an engine whose servers are not alike; ``None``: nothing is compared."""
    continues: bool = False
    """It goes on with a reply that has begun, so a server that is being drained may have it."""
    pace: Pace | None = field(default=None, compare=False, repr=False)
    """For how long its reader leaves tokens to come together; ``None``: not at all."""
    receiver: Receiver | None = field(default=None, compare=False, repr=False)
    """To be offered each delta but the first before it is yielded; ``None``: all are yielded."""

    @property
    def hold(self) -> float:
        """Seconds that its reader leaves tokens to come together now."""
        return 0.0 if self.pace is None else self.pace.hold

    def taken(self, delta: GenerationDelta) -> bool:
        """Whether its receiver has taken a delta, which is not to be yielded then."""
        return self.receiver is not None and self.receiver.take(delta)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural-log probability of one token, raw (before temperature), and its competitors."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class GenerationDelta(NamedTuple):  # one for every token: a frozen dataclass takes far longer
    """What came since the last delta. ``token_ids`` hold every generated id, EOS included."""

    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None
    """Aligned with ``token_ids`` when asked for."""
    finish_reason: Literal["stop", "length"] | None = None
    """Set on the last delta only: a stop or end token, or ``max_tokens`` reached."""
    said: Said | None = None
    """In place of ids, from an engine that is asked by chat messages."""
    cached_tokens: int | None = None
    """Of the request's ``token_ids``, those that came from a prefix cache; ``None``: not told here.
    Who knows it tells it with the first delta or with the last, and may with each."""


def joined(one: GenerationDelta, following: GenerationDelta) -> GenerationDelta:
    """Two deltas of a reply as one."""
    logprobs = one.logprobs
    if logprobs is not None or following.logprobs is not None:
        logprobs = (*(logprobs or ()), *(following.logprobs or ()))
    ids = one.token_ids + following.token_ids
    cached = one.cached_tokens if following.cached_tokens is None else following.cached_tokens
    return GenerationDelta(ids, logprobs, following.finish_reason, following.said, cached)


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What start-up and the model list tell about an engine. ``precision`` is the number format it
    computes in, where that is known."""

    kind: str
    version: str
    model: str
    device: str
    max_model_len: int
    vocab_size: int
    eos_token_ids: frozenset[int]
    precision: str = ""
    model_type: str | None = None
    """Of the model's configuration; ``None`` where that is not at hand."""
    architectures: tuple[str, ...] = ()


@runtime_checkable
class Engine(Protocol):
    """An inference engine. ``info`` and ``tokenizer`` are valid after ``start`` has returned."""

    @property
    def info(self) -> EngineInfo:
        """Facts about the running engine."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the loaded model."""

    async def start(self) -> None:
        """Load the model; raises :class:`EngineStartError` in one line where it cannot."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        """Stream one continuation. Closing the generator aborts the request in the engine.

        Raises :class:`EngineRequestError` before the first delta when the request cannot be run
        and :class:`EngineBusyError` when not now, :class:`EngineDeadError` at any time.
        """

    async def check_format(self, wanted: AnswerFormat) -> None:
        """Raise :class:`EngineRequestError` for a format that could not be enforced.

        Asked before reasoning is paid for: the format itself binds only the answer.
        """

    async def check_health(self) -> None:
        """Raise :class:`EngineDeadError` if requests cannot be served."""

    async def in_flight(self) -> int:
        """How many requests the engine itself still holds (0 or more; the ground truth)."""

    async def close(self, grace_seconds: float) -> None:
        """Stop; requests still running after ``grace_seconds`` are dropped. Idempotent.

        Those, and every later one, raise :class:`EngineClosedError`.
        """


@runtime_checkable
class Restartable(Protocol):
    """An engine that can be replaced in this process once it is dead or answers nothing."""

    async def restart(self) -> None:
        """Drop what is left, with :class:`EngineDeadError` for requests that wait, and restart.

        Raises :class:`EngineStartError` in one line, and may then be called again.
        """


@dataclass(frozen=True, slots=True)
class UpstreamState:
    """How one of the servers behind an engine stands.

    ``down`` is why it cannot be used (``None``: it is healthy), ``drained_by`` who keeps new
    requests from it, ``running`` what it is working on and ``taken`` all that it was given.
    """

    name: str
    url: str
    weight: int
    max_running: int | None
    canary: bool
    down: str | None
    drained_by: Literal["file", "call"] | None
    running: int
    taken: int


@runtime_checkable
class Fronting(Protocol):
    """An engine that hands its requests on to other servers."""

    def upstreams(self) -> Sequence[UpstreamState]:
        """How each of them stands."""

    def drain(self, name: str, *, wanted: bool, try_only: bool = False) -> bool:
        """Give a server no new requests, or (``wanted`` false) some again; False: unknown name.

        ``try_only``: change nothing. Raises :class:`DrainRefusedError`, and nothing has changed.
        """

    async def use_upstreams(
        self, wanted: Sequence[UpstreamSettings], canary: Collection[str]
    ) -> None:
        """Have these from now on, all at once, those named in ``canary`` for its requests.

        Raises :class:`EngineError`, and nothing has changed then.
        """
