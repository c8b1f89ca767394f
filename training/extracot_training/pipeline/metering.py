"""How long a reply is: all that it generated, less what an answer of its problem needs. Pure.

Counting the think block alone can be gamed: reasoning moves in front of the block, behind it, or
into a second one, and nobody meters it. So everything counts. What stands outside the first block
(closing tag, answer, end token) is free as far as an answer of the problem needs it, which is
measured; beyond that it is reasoning, whatever it calls itself. A shorter answer than usual buys
nothing back.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median


def metered_tokens(reasoning: int, total: int, need: float) -> float:
    """Length of a reply: ``reasoning`` in its block, and of the ``total`` what exceeds that and
    ``need``, the tokens that an answer needs outside of it.

    >>> metered_tokens(180, 195, 15.0)  # an honest reply
    180.0
    >>> metered_tokens(50, 195, 15.0)  # 130 tokens of reasoning are somewhere else
    180.0
    >>> metered_tokens(180, 190, 15.0)  # a short answer
    180.0
    """
    return reasoning + max(0.0, total - reasoning - need)


def answer_need(outside: Sequence[int]) -> float | None:
    """Tokens outside the block that an answer needs: the median over replies; ``None`` for none.

    >>> answer_need([14, 15, 40])
    15.0
    """
    return float(median(outside)) if outside else None
