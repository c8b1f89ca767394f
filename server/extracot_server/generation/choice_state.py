"""What one choice of a reply has become so far: plain data that its report is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from extracot.card import LevelCard
from extracot_server.budget.limits import Limits


@dataclass(slots=True)
class ChoiceState:
    """Counts and facts of one choice; read for its report at the end, however it ends.

    ``sampled`` counts ids the engine generated and that were kept, ``injected`` those the server
    wrote into the reply itself; reasoning + answer + overhead = sampled + injected.
    """

    limits: Limits
    level: LevelCard | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    reasoning: int = 0
    answer: int = 0
    overhead: int = 0
    sampled: int = 0
    injected: int = 0
    cap_hit: bool = False
    cut_for_room: bool = False
    """Reasoning was ended for the answer's room, before the cap itself was reached."""
    closed_by: Literal["model", "server"] | None = None
    unclosed: bool = False
    finish_reason: Literal["stop", "length"] | None = None
    stop: str | None = None
    """The stop string that ended the answer."""
