"""The interface of sampling: requests in, results out as they are done, in any order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from extracot.reasoning import ThinkTags, split_reasoning
from extracot_training.config.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class Request:
    """One reply wanted. ``key`` comes back with it; ``messages`` are (role, content) pairs."""

    key: str
    messages: tuple[tuple[str, str], ...]
    seed: int | None = None

    @property
    def chat(self) -> list[dict[str, str]]:
        return [{"role": role, "content": content} for role, content in self.messages]


@dataclass(frozen=True, slots=True)
class Sample:
    """A reply. ``reasoning`` is ``None`` without a think block; ``closed`` tells whether one that
    was opened also ended; ``reasoning_tokens`` is ``None`` where the backend doesn't count them."""

    reasoning: str | None
    answer: str
    closed: bool
    finish_reason: str | None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """No reply. ``refused``: the request itself is at fault (too long, say) and always will be;
    ``failed``: asking again later may work."""

    kind: Literal["refused", "failed"]
    message: str


@dataclass(frozen=True, slots=True)
class SampleResult:
    """What became of the request with this key."""

    key: str
    result: Sample | Failure


class SamplingBackend(Protocol):
    """Generates replies. ``name`` is recorded as who wrote them."""

    @property
    def name(self) -> str: ...

    def run(
        self, requests: Iterable[Request], params: SamplingParams
    ) -> AsyncGenerator[SampleResult, None]:
        """Results in the order of completion, one per request. Requests are taken only as fast as
        they are worked on. Raises :class:`GenerationError` when going on is pointless."""
        ...

    async def aclose(self) -> None:
        """Let go of connections and devices."""
        ...


def split_reply(text: str, tags: ThinkTags | None = None) -> tuple[str | None, str, bool]:
    """A raw reply as (reasoning or ``None``, answer, closed).

    A reply that ends a think block it did not open is one whose template opened it.
    """
    tags = tags or ThinkTags()
    opened = text.lstrip().startswith(tags.start)
    implied = not opened and tags.end in text
    if not opened and not implied:
        return None, text, False
    parts = split_reasoning(text, tags, in_reasoning=implied)
    return parts.reasoning, parts.answer, parts.closed
