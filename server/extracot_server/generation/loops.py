"""Exact loops in a sequence of token ids: the same ids over and over. Pure, and knows no text.

A loop is :data:`REPEATS` or more copies of the same ids in a row, of at most :data:`LONGEST` ids
each, that are together as long as the operator says. Text that repeats with any change in it, such
as a counter, is none.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

REPEATS = 4
LONGEST = 512
INTERVAL = 64
"""Tokens from one look to the next: what a look costs is spread over them."""
_PATTERN = 16
_SIZE = array("I").itemsize


def loop_period(ids: Sequence[int], span: int, within: int) -> int | None:
    """Length of the ids that the last ``within`` ids end by repeating, for ``span`` ids or more.

    The smallest such length; ``None``: they end in no such loop. A look is at
    ``max(span, REPEATS * LONGEST)`` ids at most.

    >>> loop_period([7, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3], 12, 13)
    3
    """
    if min(len(ids), within) < max(span, REPEATS):
        return None
    window = ids[-min(within, max(span, REPEATS * LONGEST)) :]
    data = array("I", window).tobytes()
    end = len(data)
    # The last ids of a loop stand one period earlier, too: only such places are looked at.
    tail = data[-_SIZE * max(1, min(_PATTERN, span // 2)) :]
    oldest = max(0, end - len(tail) - _SIZE * LONGEST)
    at = data.rfind(tail, oldest, end - 1)
    while at >= 0:
        shift = end - len(tail) - at
        if shift % _SIZE == 0 and _repeats(data, shift, max(_SIZE * span, REPEATS * shift)):
            return shift // _SIZE
        at = data.rfind(tail, oldest, at + len(tail) - 1)
    return None


def _repeats(data: bytes, shift: int, length: int) -> bool:
    """Whether the last ``length`` bytes repeat their first ``shift``."""
    return len(data) >= length and data[-length:-shift] == data[shift - length :]
