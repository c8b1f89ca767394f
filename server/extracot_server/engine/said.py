"""What a server says that is asked by chat messages: text and calls in place of token ids.

Plain data between :mod:`extracot_server.engine.openai` and :mod:`extracot_server.generation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class SaidCall(NamedTuple):
    """Something new of a reply's tool call ``number``; ``name`` comes with its beginning."""

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


@dataclass(frozen=True, slots=True)
class Said:
    """What one chunk of a chat completion adds.

    ``usage`` is of the request so far: with the last chunk, or with each where the server counts
    as it goes.
    """

    reasoning: str = ""
    content: str = ""
    calls: tuple[SaidCall, ...] = ()
    usage: SaidUsage | None = None
