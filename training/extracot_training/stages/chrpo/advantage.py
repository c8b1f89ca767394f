"""From rewards to advantages, and from a rollout's advantages to its tokens. Pure.

A rollout is compared with the others of the same problem (its group). By default an advantage is
the reward minus the group's mean, *not* divided by the group's deviation: then differences of
advantages are differences of rewards, and what the rewards promise (a smaller level earns at most
kappa) holds for advantages, too. Divided by its deviation, a group of right answers that differ by
a hundredth would push as hard as right against wrong.

With A the group-relative main reward and A_ctrl that of the level token's own, a level token gets
``A + beta * A_ctrl`` (kind ``chrpo``: ``A_ctrl`` alone) and every other token ``A``. As every right
answer outranks every wrong one in both rewards, it does so in any such sum. Groups in which every
level is forced have advantages of their own: :mod:`extracot_training.stages.chrpo.stratified`.

Knows no tensors and no trainer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypedDict

from extracot_training.config.objective import Objective

Scale = Literal["none", "group"]


class Advantage(NamedTuple):
    """``level`` is the level token's, ``rest`` every other token's."""

    level: float
    rest: float


def group_relative(rewards: Sequence[float], scale: Scale = "none") -> list[float]:
    """Rewards minus their mean; with ``scale="group"`` over their standard deviation (n - 1).

    A group whose rewards are all the same has nothing to teach: exact zeros, never NaN.

    >>> group_relative([1.0, 0.0, -0.5, 0.5])
    [0.75, -0.25, -0.75, 0.25]
    >>> group_relative([0.1, 0.1, 0.1])
    [0.0, 0.0, 0.0]
    >>> [round(x, 3) for x in group_relative([1.0, -1.0], "group")]
    [0.707, -0.707]
    """
    if not rewards or min(rewards) == max(rewards):
        return [0.0] * len(rewards)
    mean = math.fsum(rewards) / len(rewards)
    centred = [reward - mean for reward in rewards]
    if scale == "none":
        return centred
    deviation = math.sqrt(math.fsum(x * x for x in centred) / (len(centred) - 1))
    return [x / deviation for x in centred]


def group_advantages(
    main: Sequence[float],
    ctrl: Sequence[float],
    *,
    beta: float,
    alone: bool = False,
    scale: Scale = "none",
) -> list[Advantage]:
    """Advantages of one group of rollouts. ``beta=0`` is without the level token's own credit; if
    ``alone``, the level token has that and nothing of ``main``.

    Raises ``ValueError`` if the lengths differ.

    >>> group_advantages([1.0, 0.0], [0.0, -1.0], beta=0.5)
    [Advantage(level=0.75, rest=0.5), Advantage(level=-0.75, rest=-0.5)]
    >>> group_advantages([1.0, 0.0], [0.0, -1.0], beta=1.0, alone=True)
    [Advantage(level=0.5, rest=0.5), Advantage(level=-0.5, rest=-0.5)]
    """
    rest, own = group_relative(main, scale), group_relative(ctrl, scale)
    part = 0.0 if alone else 1.0
    return [Advantage(part * a + beta * b, a) for a, b in zip(rest, own, strict=True)]


class ChoiceScale(TypedDict):
    """How the level token's advantage is made of the two rewards' in a group that was drawn."""

    beta: float
    alone: bool


def choice_scale(objective: Objective) -> ChoiceScale:
    """``beta`` and ``alone`` of :func:`group_advantages`, by the objective."""
    if objective.kind == "chrpo":
        return {"beta": objective.choice_weight, "alone": True}
    capped = objective.kind == "chrpo_capped" and objective.ctrl
    return {"beta": objective.beta if capped else 0.0, "alone": False}


def batch_advantages(
    main: Sequence[float],
    ctrl: Sequence[float],
    *,
    group: int,
    beta: float,
    alone: bool = False,
    scale: Scale = "none",
) -> list[Advantage]:
    """Advantages of consecutive groups of ``group`` rollouts each.

    Raises ``ValueError`` if the rollouts are no whole number of groups.
    """
    if len(main) % group or len(main) != len(ctrl):
        raise ValueError(f"{len(main)} and {len(ctrl)} rewards are not groups of {group}")
    return [
        advantage
        for at in range(0, len(main), group)
        for advantage in group_advantages(
            main[at : at + group], ctrl[at : at + group], beta=beta, alone=alone, scale=scale
        )
    ]


def token_row(advantage: Advantage, length: int, *, has_level: bool) -> list[float]:
    """The advantage of each of a reply's ``length`` tokens; the level token is the first.

    A reply that begins with something else has no level token: all tokens get ``rest``.

    >>> token_row(Advantage(2.0, 1.0), 3, has_level=True)
    [2.0, 1.0, 1.0]
    """
    row = [advantage.rest] * length
    if has_level and row:
        row[0] = advantage.level
    return row


def control_weights(length: int, *, alpha: float, tokens: int, rollouts: int) -> list[float]:
    """Weights that turn a mean over all tokens of a batch into Thinkless' decoupled loss.

    That loss is, over ``rollouts`` replies, the mean of ``alpha * level + mean(others)`` (DeGRPO,
    arXiv 2505.13379), where a plain mean divides by ``tokens``, the batch's number of tokens. So a
    reply's level token weighs ``alpha * tokens / rollouts`` and each of its others
    ``tokens / (rollouts * others)``.

    >>> control_weights(5, alpha=0.5, tokens=40, rollouts=8)
    [2.5, 1.25, 1.25, 1.25, 1.25]
    """
    share = tokens / rollouts
    others = max(1, length - 1)
    return [alpha * share, *([share / others] * (length - 1))][:length]
