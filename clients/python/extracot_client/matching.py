r"""Compares a boxed answer with the known one: by the rules that training has, too,
or the same text after tidying.

Meant for sweeps over problems with short answers. It does no algebra: ``x+1`` and ``1+x`` differ
here, and an evaluation that needs more brings a verifier of its own.
"""

from __future__ import annotations

from extracot.answers import same_plain_answer, tidy
from extracot.quantities import plain_text


def judge(found: str | None, gold: str) -> bool | None:
    r"""The same; ``None`` where the texts differ and only algebra could tell what they say.

    >>> judge("x+1", "1+x"), judge("7", "8"), judge(None, "8")
    (None, False, False)
    """
    if found is None:
        return False
    same = same_plain_answer(found, gold)
    return True if same is None and same_answer(found, gold) else same


def same_answer(found: str | None, gold: str) -> bool:
    r"""Whether ``found`` says what ``gold`` says.

    >>> same_answer(r"\$1,200", "1200.0"), same_answer(r"\dfrac{1}{2}", "0.5")
    (True, True)
    """
    if found is None:
        return False
    same = same_plain_answer(found, gold)
    return same if same is not None else tidy(plain_text(found)) == tidy(plain_text(gold))
