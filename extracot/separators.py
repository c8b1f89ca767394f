r"""What stands between the digits of one number: ``1 000``, ``1'000``, ``1.234,56``, ``12{,}5``.

Knows digits only. A comma is a decimal one where it can be no other: ``12,5`` may be 12 and 5, and
``1,234`` is 1234.
"""

from __future__ import annotations

import re

_OPENING = r"^[\s$€£¥₹\\+−–-]*"
_HARD = "\\\\[,;: ]|[~\u00a0\u2009\u202f]"
_IN_LATEX = re.compile(
    rf"(?P<before>{_OPENING})(?:"
    rf"(?P<groups>[1-9]\d{{0,2}}(?:(?:{_HARD})\d{{3}})+)(?:,|\{{,\}})(?P<two>\d\d?)"
    r"|(?P<whole>\d+)\{,\}(?P<digits>\d+))(?!\d|\{?,|\.\d)"
)
_GROUPED = re.compile(
    r"(?<![\w.,'/^])(?<!\d )(?P<whole>[1-9]\d{0,2}(?P<by>[ '])\d{3}(?:(?P=by)\d{3})*)"
    r"(?:,(?P<decimals>\d\d?))?(?!\d| (?!\d+/\d)\d| ?/|[,']\d)"
)
_DOTTED = re.compile(
    r"(?<![\w.,'/^])(?<!\d )(?P<whole>[1-9]\d{0,2}(?:(?:\.\d{3}){2,}|\.\d{3}(?=,\d\d(?!\d))))"
    r"(?:,(?P<decimals>\d+))?(?! ?[\d/]|[.,']\d)"
)


def with_decimal_point(text: str) -> str:
    r"""A text that begins with a number whose decimal comma is told by LaTeX or by narrow spaces.

    Three digits behind ``{,}`` are a group, unless there is but a zero before it.

    >>> with_decimal_point(r"12{,}5"), with_decimal_point("1\u202f234,5 kg")
    ('12.5', '1234.5 kg')
    >>> with_decimal_point(r"12{,}500"), with_decimal_point(r"0{,}125")
    ('12{,}500', '0.125')
    """
    found = _IN_LATEX.match(text)
    if not found or (found["whole"] not in (None, "0") and len(found["digits"]) == 3):
        return text
    whole = re.sub(r"\D", "", found["groups"] or found["whole"])
    return f"{found['before']}{whole}.{found['two'] or found['digits']}{text[found.end() :]}"


def in_one_piece(text: str) -> str:
    """Numbers in groups of three without what parts them; all groups but the first are whole.

    >>> in_one_piece("1 000 kg"), in_one_piece("1'234.50"), in_one_piece("1.234,56")
    ('1000 kg', '1234.50', '1234.56')
    >>> in_one_piece("18 20"), in_one_piece("1 250/500"), in_one_piece("1.234"), in_one_piece("1,2")
    ('18 20', '1 250/500', '1.234', '1,2')
    """
    return _DOTTED.sub(_joined, _GROUPED.sub(_joined, text))


def _joined(match: re.Match[str]) -> str:
    whole = re.sub(r"\D", "", match["whole"])
    return f"{whole}.{match['decimals']}" if match["decimals"] else whole
