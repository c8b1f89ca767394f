"""What a problem needs: its teacher budget ``r*`` and its reference length ``L_ref``. Pure.

Both come from k rollouts per level of the model before the policy is trained (stage
``reference``); policy rows of the mixture and the rewards of CHRPO are made from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Needed(NamedTuple):
    """``level`` is r*; ``unanimous`` is false where no level qualified and r* is the default."""

    level: float
    unanimous: bool


def needed_level(correct: Mapping[float, Sequence[bool]]) -> Needed:
    """The smallest level such that it and every higher level answered correctly in all k samples.

    ``correct`` maps each level to its samples' correctness. A lucky small level below a level
    that fails does not count. Where not even the highest level is unanimous, r* is the highest
    level by default. Raises ``ValueError`` without levels, or for a level without samples.

    Answering better never raises r*: turning one ``False`` into ``True`` leaves it or lowers it.

    >>> needed_level({0.2: [True, False], 0.6: [True, True], 1.0: [True, True]})
    Needed(level=0.6, unanimous=True)
    >>> needed_level({0.2: [True, True], 0.6: [True, False], 1.0: [True, True]})
    Needed(level=1.0, unanimous=True)
    >>> needed_level({0.2: [True], 1.0: [False]})
    Needed(level=1.0, unanimous=False)
    """
    levels = sorted(correct, reverse=True)
    if not levels or not all(correct[level] for level in levels):
        raise ValueError("want at least one level, and at least one sample of each")
    needed = None
    for level in levels:
        if not all(correct[level]):
            break
        needed = level
    return Needed(levels[0], False) if needed is None else Needed(needed, True)


def reference_length(tokens: Sequence[int], closed: Sequence[bool]) -> float | None:
    """L_ref: mean reasoning tokens of the level-1.0 samples whose think block was closed.

    ``None`` if none was closed, or none of those reasoned at all: there is nothing to measure by.
    Raises ``ValueError`` if the lengths differ.

    >>> reference_length([100, 140, 4096], [True, True, False])
    120.0
    """
    lengths = [count for count, whole in zip(tokens, closed, strict=True) if whole]
    return sum(lengths) / len(lengths) if sum(lengths) > 0 else None
