"""Exact values in mathematical text: ``\\frac{36}{5}``, ``7.2`` and ``36/5`` are one value, ``36``
is another, and ``2\\sqrt{12}`` is ``4√3``.

A value is a sum of rational multiples of square roots and powers of π; what is none is no value.
:func:`flat` writes LaTeX as plain text that the other functions here read. No floating point, no
``eval``; powers, factorials and binomials are computed as far as anybody would write them.
"""

from __future__ import annotations

import ast
import math
import re
from fractions import Fraction

# (square-free radicand, power of π) -> coefficient
Value = dict[tuple[int, int], Fraction]

_LONGEST = 160
_LARGEST_POWER = 40
_LARGEST_BASE = 10**6
_LARGEST_CHOICE = 200

_INNERMOST = (
    (re.compile(r"(\d)\s*\\[dtc]?frac\s*\{(\d+)\}\s*\{(\d+)\}"), r"(\1+\2/\3)"),
    (re.compile(r"\\[dtc]?frac\s*\{(-?\d+)\}\s*\{(\d+)\}(?![\d/^])"), r" (\1/\2)"),
    (re.compile(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r" ((\1)/(\2))"),
    (re.compile(r"\\[dtc]?frac\s*(\d)\s*(\d)"), r" (\1/\2)"),
    (re.compile(r"\\[dt]?binom\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r" C(\1,\2)"),
    (re.compile(r"\\sqrt\s*\{([^{}]*)\}"), r"√(\1)"),
    (re.compile(r"\\sqrt\s*(\d|[a-zA-Z])"), r"√(\1)"),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|operatorname|mathit|textit|boxed|fbox|mbox"
                r"|overline|vec|hat|bar|underline)\*?\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\^\s*\{([^{}]*)\}"), r"^(\1)"),
    (re.compile(r"_\s*\{([^{}]*)\}"), r"_\1"),
)  # fmt: skip
_COMMANDS = {
    "times": "*", "cdot": "*", "div": "/", "le": "≤", "leq": "≤", "leqslant": "≤", "ge": "≥",
    "geq": "≥", "geqslant": "≥", "ne": "≠", "neq": "≠", "approx": "≈", "equiv": "≡", "pm": "±",
    "angle": "∠", "measuredangle": "∠", "triangle": "△", "pi": "π", "circ": "°", "degree": "°",
    "implies": "⇒", "Rightarrow": "⇒", "to": "⇒", "rightarrow": "⇒", "iff": "⇒",
    "Longrightarrow": "⇒", "Leftrightarrow": "⇒", "cap": "∩", "cup": "∪", "lt": "<", "gt": ">",
    "dots": "…", "ldots": "…", "cdots": "…", "quad": "  ", "qquad": "  ", "left": "", "right": "",
    "displaystyle": "", "big": "", "Big": "", "bigl": "", "bigr": "", "mid": "|", "lvert": "|",
    "rvert": "|", "alpha": "α", "beta": "β", "gamma": "γ", "theta": "θ", "phi": "φ", "lambda": "λ",
    "mu": "μ", "sigma": "σ", "omega": "ω", "delta": "δ", "epsilon": "ε", "rho": "ρ",
}  # fmt: skip
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_DELIMITER = re.compile(r"\$\$?|\\[()\[\],;:! ]|\\(?=[%$#&{}])|[{}]|(?<=\d)\{,\}(?=\d)")
_SIGNS = str.maketrans({
    "×": "*", "·": "*", "∙": "*", "÷": "/", "−": "-", "–": "-", "½": "(1/2)", "¼": "(1/4)",
    "¾": "(3/4)", "⅓": "(1/3)", "⅔": "(2/3)", "²": "^2", "³": "^3", "→": "⇒", "⟹": "⇒",
})  # fmt: skip
_UNIT = re.compile(
    r"(?<=[\d)π°%])\s*(?:[°%]|(?:[^\W\d_]{2,}|[mghls](?![\w(]))(?:\s+(?:per\s+)?[^\W\d_]+)*"
    r"(?:\s*\^\(?[23]\)?)?)\s*$"
)
_ALLOWED = re.compile(r"[0-9\s.+*/()^!,√πC-]+")


def flat(text: str) -> str:
    """LaTeX written as plain text: ``\\frac{a}{b}`` as ``((a)/(b))``, no dollars, no braces.

    >>> flat(r"$x = \\frac{36}{5}$")
    'x = (36/5)'
    """
    text = re.sub(r"(?<=\d)\{,\}(?=\d)", ",", text)
    for _ in range(8):
        before = text
        for pattern, replacement in _INNERMOST:
            text = pattern.sub(replacement, text)
        if text == before:
            break
    text = re.sub(r"\^\s*\\circ(?![A-Za-z])", "°", text)
    text = _COMMAND.sub(lambda m: _COMMANDS.get(m.group(1), f" {m.group(1)} "), text)
    text = _DELIMITER.sub(" ", text).translate(_SIGNS)
    return " ".join(text.split())


def exact(text: str) -> Value | None:
    """The value of an expression in :func:`flat` text, units left out; ``None`` if it has none."""
    plain = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text).strip().strip("$€£.,;:?= ")
    plain = _UNIT.sub("", plain).strip()
    if not plain or len(plain) > _LONGEST or not _ALLOWED.fullmatch(plain):
        return None
    plain = re.sub(r"√\s*(\d+)", r"√(\1)", plain).replace("^", "**")
    plain = re.sub(r"(\d+)\s*!", r"F(\1)", plain).replace("√", "R").replace("π", "P")
    plain = re.sub(r"(?<=[\dP)])\s*(?=[RPFC(])", "*", plain)
    plain = re.sub(r"(?<=[)P])\s*(?=\d)", "*", plain)
    plain = re.sub(r"(?<![\d.])0+(?=\d)", "", plain)
    if "!" in plain or re.search(r"\.(?!\d)|\d\s+\d", plain):
        return None
    try:
        return _value(ast.parse(plain, mode="eval").body, plain)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def key_of(value: Value) -> str:
    """How a value is written here, the same for equal values.

    >>> key_of(exact("2√(12) + 1"))
    '1+4√3'
    """
    parts = []
    for (root, power), coefficient in sorted(value.items()):
        name = (f"√{root}" if root > 1 else "") + ("π" if power else "")
        name += f"^{power}" if power not in (0, 1) else ""
        parts.append(str(coefficient) if not name or coefficient != 1 else "")
        parts[-1] += name
    return "+".join(parts).replace("+-", "-") or "0"


def value_key(text: str) -> str | None:
    """:func:`key_of` an expression's exact value, or ``None``."""
    value = exact(text)
    return None if value is None else key_of(value)


def fraction_in(text: str) -> Fraction | None:
    """The rational number that an expression in LaTeX or plain text is, or ``None``."""
    value = exact(flat(text))
    if value is None or any(kind != (1, 0) for kind in value):
        return None
    return value.get((1, 0), Fraction(0))


def _value(node: ast.expr, text: str) -> Value:
    """Raises ``ValueError`` for anything that is no value as the module says."""
    match node:
        case ast.Constant():
            return _number(Fraction(text[node.col_offset : node.end_col_offset]))
        case ast.Name(id="P"):
            return {(1, 1): Fraction(1)}
        case ast.UnaryOp(op=ast.USub()):
            return _times(_value(node.operand, text), _number(Fraction(-1)))
        case ast.BinOp(op=ast.Pow()):
            return _power(_value(node.left, text), _rational(_value(node.right, text)))
        case ast.BinOp(op=ast.Add()):
            return _plus(_value(node.left, text), _value(node.right, text))
        case ast.BinOp(op=ast.Sub()):
            right = _times(_value(node.right, text), _number(Fraction(-1)))
            return _plus(_value(node.left, text), right)
        case ast.BinOp(op=ast.Mult()):
            return _times(_value(node.left, text), _value(node.right, text))
        case ast.BinOp(op=ast.Div()):
            return _times(_value(node.left, text), _inverse(_value(node.right, text)))
        case ast.Call(func=ast.Name(id=name)):
            return _call(name, [_rational(_value(one, text)) for one in node.args])
    raise ValueError("no value")


def _call(name: str, given: list[Fraction]) -> Value:
    if name == "R" and len(given) == 1:
        return _root(given[0])
    whole = all(one.denominator == 1 and 0 <= one <= _LARGEST_CHOICE for one in given)
    if name == "F" and len(given) == 1 and whole:
        return _number(Fraction(math.factorial(int(given[0]))))
    if name == "C" and len(given) == 2 and whole:
        return _number(Fraction(math.comb(int(given[0]), int(given[1]))))
    raise ValueError("no value")


def _number(value: Fraction) -> Value:
    return {(1, 0): value} if value else {}


def _rational(value: Value) -> Fraction:
    if set(value) - {(1, 0)}:
        raise ValueError("not rational")
    return value.get((1, 0), Fraction(0))


def _plus(left: Value, right: Value) -> Value:
    total = dict(left)
    for kind, coefficient in right.items():
        total[kind] = total.get(kind, Fraction(0)) + coefficient
    return {kind: coefficient for kind, coefficient in total.items() if coefficient}


def _times(left: Value, right: Value) -> Value:
    total: Value = {}
    for (root, power), one in left.items():
        for (other, further), two in right.items():
            outside, inside = _square_free(root * other)
            part = {(inside, power + further): one * two * outside}
            total = _plus(total, part)
    return total


def _inverse(value: Value) -> Value:
    if not value:
        raise ZeroDivisionError
    if len(value) > 1:
        raise ValueError("division by a sum")
    (((root, power), coefficient),) = value.items()
    return {(root, -power): 1 / (coefficient * root)}


def _power(base: Value, exponent: Fraction) -> Value:
    if exponent.denominator != 1 or abs(exponent) > _LARGEST_POWER:
        raise ValueError("no such power")
    if any(max(abs(c.numerator), c.denominator) > _LARGEST_BASE for c in base.values()):
        raise ValueError("too large")
    if len(base) > 2 or (len(base) > 1 and abs(exponent) > 4):
        raise ValueError("too long")
    result = _number(Fraction(1))
    for _ in range(abs(int(exponent))):
        result = _times(result, base)
    return _inverse(result) if exponent < 0 else result


def _root(value: Fraction) -> Value:
    if value < 0 or max(value.numerator, value.denominator) > _LARGEST_BASE:
        raise ValueError("no such root")
    outside, inside = _square_free(value.numerator * value.denominator)
    coefficient = Fraction(outside, value.denominator)
    return {(inside, 0): coefficient} if coefficient and value else {}


def _square_free(number: int) -> tuple[int, int]:
    """``(a, b)`` with ``number == a * a * b`` and ``b`` square-free (1 for 0)."""
    if number == 0:
        return 0, 1
    outside, inside, divisor = 1, number, 2
    while divisor * divisor <= inside and divisor < 2000:
        while inside % (divisor * divisor) == 0:
            inside //= divisor * divisor
            outside *= divisor
        divisor += 1
    return outside, inside
