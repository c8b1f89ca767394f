"""The register of problem kinds, and short hands for writing them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from extracot_training.synthetic.reasoning.facts import Problem, Slip, SlipKind, Value

Topic = Literal["algebra", "geometry", "counting", "numbers", "sequences", "rates", "stories"]
Draw = Callable[[Random], Problem]


@dataclass(frozen=True, slots=True)
class Kind:
    """``draw`` makes a problem; :class:`Reject` where the numbers don't work out. ``weight``: how
    often it is drawn beside others."""

    name: str
    topic: Topic
    draw: Draw
    weight: float = 1.0


KINDS: dict[str, Kind] = {}


def kind(name: str, topic: Topic, *, weight: float = 1.0) -> Callable[[Draw], Draw]:
    """Register a kind of problem."""

    def register(draw: Draw) -> Draw:
        if name in KINDS:
            raise ValueError(f"kind {name!r} is registered twice")
        KINDS[name] = Kind(name, topic, draw, weight)
        return draw

    return register


def slip(expr: str, value: Value, *notes: str, kind: SlipKind = "formula") -> Slip:
    """A wrong expression with the value that it really has."""
    return Slip(kind, value, expr, notes=notes)


def misread(
    says: str | tuple[str, ...], value: Value, *notes: str, kind: SlipKind = "misreading"
) -> Slip:
    """A wrong clause in place of a right one. ``value``: what it comes to."""
    return Slip(kind, value, says=(says,) if isinstance(says, str) else says, notes=notes)


NAMES = (
    "Ana", "Ben", "Chloe", "Dmitri", "Elif", "Farah", "Goran", "Hana", "Igor", "Jonas", "Kofi",
    "Leila", "Marco", "Nadia", "Omar", "Petra", "Rosa", "Samir", "Tilda", "Uma", "Viktor", "Wanda",
    "Yusuf", "Zoe", "Mei", "Lars", "Ines", "Tariq", "Noor", "Pavel",
)  # fmt: skip
