r"""Finding the final answer in a reply: the last balanced ``\boxed{...}``, as a string.

Knows no mathematics: whether two answers are equal is for the verifier to say.
"""

from __future__ import annotations

import re

# One pass over what can open, close or hide a brace. Backslashes before "boxed" may be doubled
# (text that went through JSON twice); any other escaped character, braces among them, is skipped.
_TOKEN = re.compile(r"(?P<boxed>\\+boxed\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)


def extract_answer(text: str) -> str | None:
    r"""Content of the last balanced, non-blank ``\boxed{...}``, stripped; ``None`` without one.

    Nested braces and escaped ones (``\{``) are kept. "Last" goes by where a box opens, so of
    nested boxes the inner one counts. Blank boxes are passed over, because a model that repeats
    its instructions writes one. Runs in linear time.

    >>> extract_answer(r"so \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    opened: list[tuple[int, bool]] = []  # (where the content starts, is it a box)
    best_start, best = -1, None
    for match in _TOKEN.finditer(text):
        if match["boxed"] or match["open"]:
            opened.append((match.end(), match["boxed"] is not None))
        elif match["close"] and opened:
            start, is_box = opened.pop()
            if is_box and start > best_start and text[start : match.start()].strip():
                best_start, best = start, text[start : match.start()].strip()
    return best
