"""How a trace is told: lengths, shares and weights. Numbers only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Weights of the moves between facts.
MOVES: Mapping[str, float] = {
    "hedge": 1.2,
    "repeat": 1.1,
    "recheck": 1.4,
    "undo": 1.4,
    "size": 1.3,
    "what_if": 1.0,
    "summary": 0.6,
    "restate": 0.7,
    "asked": 0.3,
    "detour": 1.2,
    "dead_end": 1.6,
    "shelve": 0.8,
    "false_alarm": 0.7,
    "restart": 0.2,
    "again": 0.25,
}


@dataclass(frozen=True, slots=True)
class Telling:
    """``length``: fewest and most tokens, about. ``needed``: least and most share of the tokens
    that needed sentences take. ``slips``: most likely share of facts that are first got wrong.
    ``late``: share of slips that are noticed only later. ``moves``: weights of the moves between
    facts."""

    length: tuple[int, int] = (300, 3000)
    needed: tuple[float, float] = (0.08, 0.28)
    slips: float = 0.6
    late: float = 0.55
    moves: Mapping[str, float] = field(default_factory=lambda: dict(MOVES))
