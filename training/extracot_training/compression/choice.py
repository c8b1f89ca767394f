"""Puts the steps of a trace in the order in which a budget takes them: most needed first.

Taken one by one: a step's worth is how likely the answer needs it, less how likely it is taken
back. What says only things that are already told comes last but for what was revoked. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from extracot_training.compression.reading import StepReading

# What is left of a step's worth if the steps already taken state all that it states.
REPEATED = 0.25


def facts(reading: StepReading) -> frozenset[str]:
    """What a step states, as keys: named values, outcomes, relations."""
    named = frozenset(f"{name}={value}" for name, value in reading.defines)
    return named | reading.results | reading.relations


def step_order(
    readings: Sequence[StepReading],
    needed: Sequence[float],
    revoked: Sequence[float],
    first: int | None,
    *,
    caution: float = 1.0,
    repeated: float = REPEATED,
) -> list[int]:
    """All steps. ``needed`` and ``revoked`` are probabilities; ``first`` states the final answer
    and leads. Worth is ``needed * (1 - revoked) ** caution``. Ties go to the earlier step."""
    worth = [want * (1 - gone) ** caution for want, gone in zip(needed, revoked, strict=True)]
    stated = [facts(reading) for reading in readings]
    told: set[str] = set()
    order: list[int] = []
    left = set(range(len(readings)))
    if first is not None:
        order.append(first)
        left.discard(first)

    def rank(step: int) -> tuple[float, int]:
        again = bool(stated[step]) and stated[step] <= told
        return (worth[step] * (repeated if again else 1.0), -step)

    while left:
        best = max(left, key=rank)
        order.append(best)
        left.discard(best)
        told |= stated[best]
    return order
