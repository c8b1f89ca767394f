"""Puts the steps of a trace in the order in which a budget takes them: most needed first. Pure."""

from __future__ import annotations

from collections.abc import Sequence

# 0 would take long steps that are a little more likely needed; 1 is worth by the token, which takes
# short steps that say little.
THRIFT = 0.5


def step_order(
    needed: Sequence[float],
    revoked: Sequence[float],
    costs: Sequence[int],
    first: int | None,
    *,
    caution: float = 1.0,
    thrift: float = THRIFT,
) -> list[int]:
    """All steps, by ``needed * (1 - revoked) ** caution / costs ** thrift``: probabilities, and
    tokens. Of two steps equally likely to be needed the shorter one leaves more room. ``first``
    states the final answer and leads. Ties go to the earlier step.

    >>> step_order([0.9, 0.5, 0.9, 0.2], [0.0, 0.0, 0.9, 0.0], [4, 4, 4, 4], 3)
    [3, 0, 1, 2]
    """
    worth = [
        want * (1 - gone) ** caution / max(1, cost) ** thrift
        for want, gone, cost in zip(needed, revoked, costs, strict=True)
    ]
    return sorted(range(len(worth)), key=lambda step: (step != first, -worth[step], step))
