r"""Whether a reply's boxed answer is the known one, where that can be told without algebra."""

from __future__ import annotations

from extracot.answers import same_answer, same_plain_answer


def judge(found: str | None, gold: str) -> bool | None:
    r"""Whether ``found`` says what ``gold`` says; ``None`` where the texts differ and only algebra
    could tell what they say.

    >>> judge("x+1", "1+x"), judge("7", "8"), judge(None, "8")
    (None, False, False)
    """
    if found is None:
        return False
    same = same_plain_answer(found, gold)
    return True if same is None and same_answer(found, gold) else same
