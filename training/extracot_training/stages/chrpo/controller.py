"""The price of tokens, adapted so that accuracy stays where the constraint wants it. Pure.

The stage's problem is: spend as little as can be, while the accuracy of what the policy chooses is
within epsilon of that at level 1.0. With mu >= 0 the constraint's multiplier its Lagrangian is

    E[s] - mu (A(policy) - A(1.0) + epsilon),

and divided by mu, with lambda = 1 / mu, what is maximised is E[y - lambda s]. The dual step raises
mu where accuracy falls short, so lambda falls there, and rises where accuracy is to spare; it is
projected on [0, price_most]:

    lambda <- clip(lambda + rate * (A(policy) - A(1.0) + epsilon), 0, price_most)

Both accuracies are measured on the same stratified groups, so that a hard problem counts on both
sides: A(policy) is sum_c pi(c|x) y(x, c), averaged over problems. Knows no trainer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from extracot_training.config.objective import Objective

# Share of the newest measurement in the running accuracy of each level (for against: best).
NEWEST = 0.1


class GroupAccuracy(NamedTuple):
    """Of one stratified group: accuracy and spent level of each level's replies, by ascending
    level, and the policy's probabilities among the levels."""

    right: Sequence[float]
    spent: Sequence[float]
    shares: Sequence[float]


@dataclass(slots=True)
class PriceController:
    """Holds lambda and what it was measured by. ``state`` and ``load`` are for checkpoints: numbers
    that JSON keeps to the last bit."""

    objective: Objective
    price: float = field(init=False)
    levels: list[float] | None = None

    def __post_init__(self) -> None:
        self.price = self.objective.price

    def update(self, groups: Sequence[GroupAccuracy]) -> dict[str, float]:
        """Take one dual step by the groups of a round; returns figures for the log.

        ``accuracy_choice`` is the policy's expected accuracy, ``accuracy_whole`` that of what it is
        held against, ``spent_choice`` the level it pays for, ``price`` the price before the step.
        """
        if not groups:
            return {"price": self.price}
        count = len(groups)
        chosen = math.fsum(_expected(one.shares, one.right) for one in groups) / count
        spent = math.fsum(_expected(one.shares, one.spent) for one in groups) / count
        by_level = [math.fsum(column) / count for column in zip(*(one.right for one in groups),
                                                                 strict=True)]  # fmt: skip
        against = by_level[-1]
        if self.objective.against == "best" and self.levels is not None:
            # The best of earlier rounds: picked by this one's, its luck would be in it.
            against = by_level[self.levels.index(max(self.levels))]
        self.levels = by_level if self.levels is None else [
            (1 - NEWEST) * old + NEWEST * new
            for old, new in zip(self.levels, by_level, strict=True)
        ]  # fmt: skip
        figures = {
            "price": self.price, "accuracy_choice": chosen, "accuracy_whole": against,
            "spent_choice": spent,
        }  # fmt: skip
        step = self.objective.price_rate * (chosen - against + self.objective.slack)
        self.price = min(max(self.price + step, 0.0), self.objective.price_most)
        return figures

    def state(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"price": self.price, "levels": self.levels}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.price = float(state["price"])
        levels = state["levels"]
        self.levels = None if levels is None else [float(one) for one in levels]


def _expected(shares: Sequence[float], values: Sequence[float]) -> float:
    return math.fsum(share * value for share, value in zip(shares, values, strict=True))
