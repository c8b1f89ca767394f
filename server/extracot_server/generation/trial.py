"""One request's part in a canary: its side, and what becomes of it there.

Only what ran on its own side is compared; what had to move is counted apart. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING
from uuid import uuid4

from extracot_server.budget.canary import FAILURES, Comparison, Side, Why, draw
from extracot_server.budget.holdout import Arm
from extracot_server.config.upstreams_file import CanarySettings
from extracot_server.engine.base import Placement
from extracot_server.generation.report import BudgetReport

if TYPE_CHECKING:
    from extracot_server.generation.request import ChatRequest, PreparedChat, ServedModel

_WHOLE = ("ok", "length")


@dataclass(eq=False, slots=True)
class Canary:
    """The canary of ``model``. ``served`` is what its requests run on, where that is another card
    or model; ``bucket`` where the usage store keeps the comparison."""

    model: str
    settings: CanarySettings
    bucket: str
    served: ServedModel | None = None
    comparison: Comparison = field(default_factory=Comparison)

    def draw(self, request: ChatRequest) -> Trial:
        """The side of a request, by what sticks together."""
        key = request.principal.name
        units = {
            "conversation": (key, _beginning(request)),
            "key": (key,),
            "request": (uuid4().hex,),
        }
        settings = self.settings
        side, cluster = draw(settings.share, settings.name, *units[settings.stick])
        place = Placement(side is Side.CANARY) if settings.upstreams else None
        return Trial(self, side, cluster, place)


@dataclass(eq=False, slots=True)
class Trial:
    """A request's side, and its place among the engine's servers where some are the canary."""

    canary: Canary
    side: Side
    cluster: int
    placement: Placement | None
    _moved: Why | None = None

    @property
    def moved(self) -> Why | None:
        """Why it was not served on its own side."""
        elsewhere = self.placement is not None and self.placement.moved
        return self._moved or ("upstream" if elsewhere else None)

    @property
    def settled(self) -> bool:
        """Whether it stays on the side that it is on now, though nothing has come from there."""
        return self.placement is None or self.moved is not None

    @property
    def served_by(self) -> Side:
        """The side that serves it, as far as is known."""
        if self.moved is None:
            return self.side
        return Side.STABLE if self.side is Side.CANARY else Side.CANARY

    def move(self, why: Why) -> None:
        """Have it served on the other side."""
        self._moved = why
        self.placement = None

    def record(self, amounts: Mapping[str, float]) -> dict[str, float]:
        """Take in what it counts as; what has changed in the comparison, by name."""
        return self.canary.comparison.add(self.side, self.cluster, amounts)


def amounts_of(
    trial: Trial, chat: PreparedChat, outcome: str, choices: Sequence[BudgetReport]
) -> Mapping[str, float]:
    """What a request counts as: means over its choices.

    Those that the holdout has drawn are not budgeted as the others, and left out of both sides.
    """
    if trial.moved is not None:
        return {"moved": 1.0}
    if chat.arm in (Arm.HOLDOUT, Arm.CEILING):
        return {"held_out": 1.0}
    amounts = {"requests": 1.0}
    if outcome not in _WHOLE:
        return amounts | ({outcome: 1.0} if outcome in FAILURES else {})

    def share(*values: float | bool | None) -> float:
        return sum(float(value or 0) for value in values) / len(values)

    reasoning = share(*(choice.reasoning_tokens for choice in choices))
    answer = share(*(choice.answer_tokens for choice in choices))
    return amounts | {
        "replies": 1.0,
        "reasoning_tokens": reasoning,
        "total_tokens": reasoning + answer,
        "seconds": perf_counter() - chat.times.start,
        "cut": float(outcome == "length"),
        "cap_hit": share(*(choice.cap_hit for choice in choices)),
        "escaped": share(*(choice.escaped for choice in choices)),
        "no_answer": share(*(choice.answer_tokens == 0 for choice in choices)),
    }


def _beginning(request: ChatRequest) -> str:
    """What all requests of a conversation have in common: what its user said first."""
    return next((m.content for m in request.messages if m.role == "user"), "")
