"""Whether a sentence or a line ends between two stretches of text. Knows nothing of tokens."""

from __future__ import annotations

import re

_LINE = re.compile(r"\n\s*\Z")
_NEW_LINE = re.compile(r"[^\S\n]*\n")
# Scripts whose sentences are not followed by a space.
_WIDE = re.compile(r"[。！？][」』）”’]*\Z")
_SENTENCE = re.compile(r"""[.!?…][)\]"'”’*_]*(?P<space>\s*)\Z""")
_LIST_MARK = re.compile(r"(?:\A|\n)\s*(?:\d{1,3}|[A-Za-z])[.)]\s*\Z")


def ends_between(before: str, after: str) -> bool:
    """Whether ``before`` ends with a sentence or a line, now that ``after`` comes.

    A full stop ends a sentence only before white space (not in 3.14), and not where it is that of a
    numbered line. Abbreviations are taken for ends.

    >>> ends_between("It is 3.", " So"), ends_between("It is 3.", "14")
    (True, False)
    """
    if not before.strip() or not after:
        return False
    if _LINE.search(before) or _NEW_LINE.match(after) or _WIDE.search(before):
        return True
    found = _SENTENCE.search(before)
    if found is None or _LIST_MARK.search(before):
        return False
    return bool(found["space"]) or after[0].isspace()
