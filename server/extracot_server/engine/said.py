"""What a server says that is asked by chat messages: text and calls in place of token ids.

Plain data between :mod:`extracot_server.engine.openai` and :mod:`extracot_server.generation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class SaidCall(NamedTuple):
    """Something new of a reply's tool call ``number`` (-1: it has none).

    ``name`` comes with its beginning, as a rule, and ``id``, where it has one; neither is empty.
    """

    number: int
    id: str | None
    name: str | None
    arguments: str


@dataclass(frozen=True, slots=True)
class SaidUsage:
    """Tokens of one request as its server counts them; ``None``: it does not tell."""

    prompt: int | None = None
    completion: int | None = None
    reasoning: int | None = None
    cached: int | None = None
    """Of the prompt, those that came from a prefix cache."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one chunk of a chat completion adds.

    ``refusal`` is what a model says in place of an answer. ``usage`` is of the request so far: with
    the last chunk, or with each where the server counts as it goes. ``filtered``: the reply ends
    here because its server's filter wants so.
    """

    reasoning: str = ""
    content: str = ""
    refusal: str = ""
    calls: tuple[SaidCall, ...] = ()
    usage: SaidUsage | None = None
    filtered: bool = False

    @property
    def says(self) -> bool:
        """Whether there is anything of the reply itself."""
        return bool(self.reasoning or self.content or self.refusal or self.calls)
