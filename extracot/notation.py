r"""Answers to be compared, brought to one notation: signs and plain spellings as LaTeX.

``√2`` is ``\sqrt{2}``, ``81 pi`` is ``81\pi``, ``x > 2`` is ``(2,\infty)`` where an interval is the
known answer. What can be read in two ways is left as it is: ``√3x``, ``√2^3``.
"""

from __future__ import annotations

import re

from extracot.digits import with_periods, with_powers
from extracot.quantities import LONGEST, is_product

_SIGNS = str.maketrans(
    {
        "≤": "\\le ", "⩽": "\\le ", "≥": "\\ge ", "⩾": "\\ge ", "≠": "\\ne ", "±": "\\pm ",
        "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "∙": "\\cdot ", "÷": "\\div ",
        "−": "-", "–": "-", "∞": "\\infty ", "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ",
        "∅": "\\emptyset ", "°": "^\\circ ", "π": "\\pi ", "θ": "\\theta ", "α": "\\alpha ",
        "β": "\\beta ", "γ": "\\gamma ", "δ": "\\delta ", "λ": "\\lambda ", "ω": "\\omega ",
    }
)  # fmt: skip
_SPELLINGS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), by)
    for pattern, by in (
        (r"\{:\}|\\colon(?![A-Za-z])", ":"),
        (r"<=|\\leq(?:slant)?(?![A-Za-z])", r"\\le "),
        (r">=|\\geq(?:slant)?(?![A-Za-z])", r"\\ge "),
        (r"\\neq(?![A-Za-z])", r"\\ne "),
        (r"\\varnothing(?![A-Za-z])", r"\\emptyset "),
        (r"(?<![A-Za-z\\])(pi|theta)(?![A-Za-z])", r"\\\1 "),
        (r"(?<![A-Za-z\\])sqrt(?= ?[\d({])", "√"),
        # A letter behind a space is a unit to math-verify, even in a + b + c.
        (r"(?<=[-+*/=<>]) +(?=[A-Za-z])", ""),
    )
)
_ROOTS = {"√": "\\sqrt", "∛": "\\sqrt[3]", "∜": "\\sqrt[4]"}
_ROOT_OF = re.compile(
    r" ?(?:(?P<open>[({])|(?P<plain>\d+(?:\.\d+)?(?!\.?\d|,\d{3}|[A-Za-z(\\^_{])"
    r"|[A-Za-z](?![A-Za-z\d(\\^_{])|\\pi(?![A-Za-z])(?! *[A-Za-z\d(\\^_{])))"
)
_LAST_LETTERS = re.compile(r"(?<=\d)[a-z]{1,3}$")
_OPERATOR = re.compile(r"[^\s(] ?[-+]")
_CLOSING = {"(": ")", "{": "}"}

_IMAGINARY = re.compile(r"(?<![A-Za-z\\])i(?![A-Za-z])")
_ROOT_OF_MINUS_ONE = re.compile(r"\\sqrt\s*\{\s*-\s*1\s*\}")

_SIZES = re.compile(r"\\(?:left|right)(?![A-Za-z])|\\[,;:! ]|\$")
_IS_INTERVAL = re.compile(
    r"\s*(?P<within>[a-z]\s*\\in(?![A-Za-z])\s*)?[(\[][^,()\[\]]*,[^,()\[\]]*[)\]]\s*"
)
_RELATION = re.compile(r"(<|>|\\(?:le|ge|lt|gt)(?![A-Za-z]))")
_VARIABLE = re.compile(r"[A-Za-z]|\\theta")
_COMMAND = re.compile(r"\\[A-Za-z]+")

_CHOICE = re.compile(
    r"(?:\(([A-E])\)|([A-E])[).:]) (?=[^\s=+*/^,;-]|-\S)(?![A-Z]\.)(.*)", re.DOTALL
)
_OTHER_CHOICE = re.compile(r"(?<![A-Za-z])[A-E](?![A-Za-z])")


def in_one_notation(answer: str, gold: str) -> tuple[str, str]:
    r"""Both as LaTeX, the answer in the form of the gold; too long ones are left.

    >>> in_one_notation("x ≥ √2", r"[\sqrt2,\infty)")
    ('[\\sqrt{2},\\infty)', '[\\sqrt2,\\infty)')
    """
    answer, gold = in_latex(answer), in_latex(gold)
    answer = as_interval(answer, gold)
    for one, other in ((answer, gold), (gold, answer)):
        if _IMAGINARY.search(one) and not _IMAGINARY.search(other):
            return _with_i(answer), _with_i(gold)
    return answer, gold


def _with_i(text: str) -> str:
    return _ROOT_OF_MINUS_ONE.sub(" i", text)


def in_latex(text: str) -> str:
    r"""Signs, roots, raised and repeating digits, and the names ``pi`` and ``theta``, as LaTeX.

    >>> in_latex("2√3"), in_latex("√(3+1)"), in_latex("81 pi"), in_latex("3²")
    ('2\\sqrt{3}', '\\sqrt{3+1}', '81 \\pi ', '3^2')
    """
    if len(text) > LONGEST:
        return text
    text = text.strip().rstrip("\\").rstrip() or text
    text = with_periods(with_powers(text)).translate(_SIGNS)
    for pattern, by in _SPELLINGS:
        text = pattern.sub(by, text)
    for sign, command in _ROOTS.items():
        text = _with_roots(text, sign, command)
    return _LAST_LETTERS.sub(_no_unit, text)


def _no_unit(match: re.Match[str]) -> str:
    """Letters that math-verify would leave out, its last one in braces: ``2ab`` is 2 to it."""
    letters = match[0]
    product = is_product(letters) or (len(letters) == 1 and _OPERATOR.search(match.string))
    return f"{letters[:-1]}{{{letters[-1]}}}" if product else letters


def _with_roots(text: str, sign: str, command: str) -> str:
    """From the last root to the first, so that one in another is done before it."""
    at = len(text)
    while (at := text.rfind(sign, 0, at)) >= 0:
        found = _ROOT_OF.match(text, at + 1)
        if not found:
            continue
        start, end = found.start("plain"), found.end("plain")
        if found["open"]:
            start, end = found.end(), _closed(text, found.end(), found["open"])
        if start < end:
            behind = end + bool(found["open"])
            text = f"{text[:at]}{command}{{{text[start:end]}}}{text[behind:]}"
    return text


def _closed(text: str, start: int, opening: str) -> int:
    """Where the bracket is closed that is open at ``start``; -1: nowhere."""
    depth = 1
    for at in range(start, len(text)):
        depth += (text[at] == opening) - (text[at] == _CLOSING[opening])
        if depth == 0:
            return at
    return -1


def as_interval(answer: str, gold: str) -> str:
    r"""An inequality in one variable as an interval, if the gold is an interval.

    >>> as_interval("x>2", r"(2,\infty)"), as_interval(r"-2<x\le 3", "(-2,3)")
    ('(2,\\infty)', '(-2,3]')
    >>> as_interval("x>2", "3")
    'x>2'
    """
    if max(len(answer), len(gold)) > LONGEST:
        return answer
    interval = _IS_INTERVAL.fullmatch(_SIZES.sub("", gold))
    if not interval:
        return answer
    parts = [part.strip() for part in _RELATION.split(_SIZES.sub("", answer))]
    sides, signs = parts[::2], parts[1::2]
    if len(sides) not in (2, 3):
        return answer
    at = 1 if len(sides) == 3 or not _VARIABLE.fullmatch(sides[0]) else 0
    ends = sides[:at] + sides[at + 1 :]
    up = [sign in ("<", "\\lt", "\\le") for sign in signs]
    if not _VARIABLE.fullmatch(sides[at]) or not all(map(_is_end, ends)) or len({*up}) > 1:
        return answer
    closed = [sign in ("\\le", "\\ge") for sign in signs]
    if len(ends) == 2:
        low, high = (
            zip(ends, closed, strict=True) if up[0] else zip(ends[::-1], closed[::-1], strict=True)
        )
    elif up[0] == (at == 0):
        low, high = ("-\\infty", False), (ends[0], closed[0])
    else:
        low, high = (ends[0], closed[0]), ("\\infty", False)
    return f"{interval['within'] or ''}{'(['[low[1]]}{low[0]},{high[0]}{')]'[high[1]]}"


def _is_end(text: str) -> bool:
    """Whether this can be an interval's end: something without a variable."""
    plain = _COMMAND.sub("", text)
    return bool(text) and not re.search(r"[A-Za-z,=]|\\", plain) and "\\theta" not in text


def chosen(answer: str, gold: str) -> str:
    """The letter alone of a choice that is told with its value, if the gold is a letter A to E.

    Both as plain text. Not so where the value names a choice too.

    >>> chosen("(D) 5", "D"), chosen("D. 5", "(D)"), chosen("D. 5", "5"), chosen("A) or B)", "A")
    ('D', 'D', 'D. 5', 'A) or B)')
    """
    if len(answer) > LONGEST or not re.fullmatch(r"[A-E]|\([A-E]\)|[A-E]\)", gold):
        return answer
    found = _CHOICE.fullmatch(answer)
    if not found or _OTHER_CHOICE.search(found[3]):
        return answer
    return found[1] or found[2]
