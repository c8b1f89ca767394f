"""Sums of products of letters, ``ab - cd``, told from words and compared without a verifier.

math-verify 0.9.0 takes letters at the end for a unit (``a + b + c`` becomes ``a +``) and ``dc`` for
a differential.
"""

from __future__ import annotations

import re
from collections import Counter

from extracot.quantities import LONGEST, MATHEMATICAL

_LETTERS = re.compile(r"[a-z +-]*[a-z]")
_VOWELS = frozenset("aeiou")
_LONGEST_FACTOR = 3
_JOINING = frozenset(("and", "or", "to", "by", "of"))


def same_letters(answer: str, gold: str) -> bool | None:
    """Whether two sums of products of letters are the same; ``None``: neither is one, or only one
    is and the other is more than small letters.

    What could be words is a product only if no word is like it: its pieces, as spaces part them,
    are single letters or have no vowel, and it has three letters at most, all different (``mn``,
    ``xy``, ``a bc``; ``h t h`` is a sequence). In a sum or a difference pieces may have vowels, if
    they have no more than three letters (``ab - cd``). A lone letter is no product.

    >>> same_letters("ab - cd", "ba - dc"), same_letters("mn", "nm"), same_letters("ab - c", "ab c")
    (True, True, False)
    >>> same_letters("ben", "neb")
    """
    if max(len(answer), len(gold)) > LONGEST or not (_is_sum(answer) or _is_sum(gold)):
        return None
    left, right = _terms(answer), _terms(gold)
    return None if left is None or right is None else left == right


def _is_sum(text: str) -> bool:
    pieces = re.findall("[a-z]+", text)
    if len(text) < 2 or not _LETTERS.fullmatch(text) or _JOINING & set(pieces):
        return False
    like_words = any(len(piece) > 1 and _VOWELS & set(piece) for piece in pieces)
    if set(text) & set("+-"):
        return not like_words or all(len(piece) <= _LONGEST_FACTOR for piece in pieces)
    letters = "".join(pieces)
    return not like_words and len(set(letters)) == len(letters) <= _LONGEST_FACTOR


def _terms(text: str) -> dict[str, int] | None:
    """How often each product is in a sum, its letters in order; ``None``: that is no sum."""
    if not _LETTERS.fullmatch(text) or any(
        piece in MATHEMATICAL for piece in re.findall("[a-z]+", text)
    ):
        return None
    first, *others = re.split("([+-])", text.replace(" ", ""))
    found: Counter[str] = Counter({"".join(sorted(first)): 1} if first else {})
    for sign, letters in zip(others[::2], others[1::2], strict=True):
        if not letters:
            return None
        found["".join(sorted(letters))] += 1 if sign == "+" else -1
    return {letters: times for letters, times in found.items() if times}
