"""Groups in which every level has its replies: their plan, and the advantages that follow. Pure.

A group's replies are forced to the levels in turn, so that every level of a problem is tried (an
arm of a bandit) however seldom the policy would choose it. With p(c) the policy's probability of
level c as first token, Q(c) the mean of what the level token of its replies earned, and -1 for a
reply that begins with no level, the expected reward of the choice is

    J = sum_c p(c) Q(c) - (1 - sum_c p(c))

and its gradient, sum_c p(c) (Q(c) + 1) grad log p(c), is exact in p: no level has to be drawn for
it. As every level's token stands in some reply of the group, the gradient is what the usual loss
has of those tokens if each has the advantage ``p(c) (Q(c) + 1) * group / n(c)``: then a group
weighs as much as its replies. To this comes the gradient of ``entropy * H``, H the entropy of the
choice among levels.

All other tokens are compared with replies at the same level alone: those of the same problem and,
by the weight of one more, the level's mean over the other problems. A reply is never in its own
baseline.

Knows no tensors and no trainer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from extracot_training.stages.chrpo.advantage import Advantage
from extracot_training.stages.chrpo.reward import INVALID

# Weight of the level's mean over other problems in a baseline, in replies.
OTHERS = 1.0


def planned_levels(group: int, levels: int, turn: int) -> list[int]:
    """Which level each reply of a group is forced to, as places among ``levels``.

    All of them as often as they fit; what is left over goes to levels in turn, from group number
    ``turn`` to the next. Raises ``ValueError`` for a group with fewer replies than levels.

    >>> planned_levels(10, 5, 0)
    [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    >>> planned_levels(6, 4, 0), planned_levels(6, 4, 1)
    ([0, 1, 2, 3, 0, 1], [0, 1, 2, 3, 2, 3])
    """
    if group < levels:
        raise ValueError(f"{group} replies are too few for {levels} levels")
    whole, over = divmod(group, levels)
    return [*range(levels)] * whole + [(turn * over + at) % levels for at in range(over)]


def arm_means(arms: Sequence[int], values: Sequence[float], levels: int) -> list[float]:
    """Mean of the values at each level; every level has one at least.

    >>> arm_means([0, 1, 0, 1], [1.0, 0.0, 0.5, 0.5], 2)
    [0.75, 0.25]
    """
    sums, counts = [0.0] * levels, [0] * levels
    for arm, value in zip(arms, values, strict=True):
        sums[arm] += value
        counts[arm] += 1
    return [total / count for total, count in zip(sums, counts, strict=True)]


def choice_advantages(
    arms: Sequence[int], values: Sequence[float], shares: Sequence[float], *, entropy: float = 0.0
) -> list[float]:
    """The level token's advantage in each reply of a group.

    ``arms`` are places of levels, ``values`` what the level tokens earned, ``shares`` the policy's
    probability of each level as first token (they may add up to less than 1).

    >>> choice_advantages([0, 1], [1.0, 0.0], [0.25, 0.75])  # 2 * p * (Q + 1)
    [1.0, 1.5]
    """
    means = arm_means(arms, values, len(shares))
    total = math.fsum(shares)
    own = [share / total if total > 0 else 0.0 for share in shares]
    surprise = [-math.log(share) if share > 0 else 0.0 for share in own]
    mean = math.fsum(share * log for share, log in zip(own, surprise, strict=True))
    worth = [
        share * (value - INVALID) + entropy * of_levels * (log - mean)
        for share, value, of_levels, log in zip(shares, means, own, surprise, strict=True)
    ]
    counts = [arms.count(arm) for arm in range(len(shares))]
    return [len(arms) * worth[arm] / counts[arm] for arm in arms]


def rest_advantages(groups: Sequence[tuple[Sequence[int], Sequence[float]]]) -> list[list[float]]:
    """The advantage of all other tokens, per group and reply.

    ``groups`` has the arms and the rewards of every group that was drawn together. A reply whose
    level occurs nowhere else has nothing to be compared with: 0.

    >>> rest_advantages([([0, 0], [1.0, 0.0]), ([0, 1], [0.5, 1.0])])
    [[0.75, -0.75], [0.0, 0.0]]
    """
    levels = 1 + max(arm for arms, _ in groups for arm in arms)
    found: list[list[float]] = []
    sums = [[0.0] * levels for _ in groups]
    counts = [[0] * levels for _ in groups]
    for at, (arms, rewards) in enumerate(groups):
        for arm, earned in zip(arms, rewards, strict=True):
            sums[at][arm] += earned
            counts[at][arm] += 1
    total = [math.fsum(one[arm] for one in sums) for arm in range(levels)]
    number = [sum(one[arm] for one in counts) for arm in range(levels)]
    for at, (arms, rewards) in enumerate(groups):
        own: list[float] = []
        for arm, earned in zip(arms, rewards, strict=True):
            others = number[arm] - counts[at][arm]
            weight = OTHERS if others else 0.0
            mean = (total[arm] - sums[at][arm]) / others if others else 0.0
            same = counts[at][arm] - 1
            base = weight * mean + sums[at][arm] - earned
            own.append(earned - base / (weight + same) if weight + same else 0.0)
        found.append(own)
    return found


def stratified_advantages(
    arms: Sequence[Sequence[int]],
    main: Sequence[Sequence[float]],
    level: Sequence[Sequence[float]],
    shares: Sequence[Sequence[float]],
    *,
    entropy: float = 0.0,
    weight: float = 1.0,
) -> list[list[Advantage]]:
    """Advantages of groups: ``main`` is what all tokens earned, ``level`` what the level tokens
    did, ``shares`` the policy's at the group's prompt, ``weight`` of the choice beside the rest."""
    rest = rest_advantages(list(zip(arms, main, strict=True)))
    return [
        [
            Advantage(weight * choice, other)
            for choice, other in zip(
                choice_advantages(of, values, own, entropy=entropy), others, strict=True
            )
        ]
        for of, values, own, others in zip(arms, level, shares, rest, strict=True)
    ]
