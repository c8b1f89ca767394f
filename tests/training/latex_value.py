"""The value of an arithmetic expression in LaTeX, by recursive descent: nothing of the generator.

Exact as long as it can be; roots and pi make it a float.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\d+|[A-Za-z]|[-+*/^!(){}|_,:]|\S")

Number = Fraction | float


class NoNumber(ValueError):
    """The expression holds a symbol or a sign that this reader doesn't know."""


def value_of(latex: str) -> Number:
    """Raises :class:`NoNumber` for what is not arithmetic."""
    text = latex.replace("^\\circ", "").replace("\\left", "").replace("\\right", "")
    tokens = TOKEN.findall(text)
    if not tokens:
        raise NoNumber(latex)
    reader = _Reader(tokens)
    found = reader.total()
    if reader.tokens:
        raise NoNumber(latex)
    return found


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens

    def peek(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def take(self, wanted: str | None = None) -> str:
        if not self.tokens or (wanted is not None and self.tokens[0] != wanted):
            raise NoNumber(f"want {wanted!r} at {self.tokens[:3]}")
        return self.tokens.pop(0)

    def total(self) -> Number:
        found = self.product()
        while self.peek() in ("+", "-"):
            found = found + self.product() if self.take() == "+" else found - self.product()
        if self.peek() == "\\bmod":
            self.take()
            found %= self.product()
        return found

    def product(self) -> Number:
        found = self.signed()
        while True:
            ahead = self.peek()
            if ahead in ("\\cdot", "\\times", "*"):
                self.take()
                found *= self.signed()
            elif ahead in ("\\div", "/"):
                self.take()
                found /= self.signed()
            elif ahead in ("\\sqrt", "\\pi", "\\frac", "\\binom"):
                found *= self.power()
            else:
                return found

    def signed(self) -> Number:
        if self.peek() == "-":
            self.take()
            return -self.signed()
        return self.power()

    def power(self) -> Number:
        found: Number = self.atom()
        while self.peek() in ("!", "^"):
            if self.take() == "!":
                found = Fraction(math.factorial(int(found)))
            else:
                exponent = self.group() if self.peek() == "{" else Fraction(self.take())
                found = _power(found, int(exponent))
        return found

    def group(self, opening: str = "{", closing: str = "}") -> Number:
        self.take(opening)
        found = self.total()
        self.take(closing)
        return found

    def pair(self) -> tuple[Number, Number]:
        self.take("(")
        left = self.total()
        self.take(",")
        right = self.total()
        self.take(")")
        return left, right

    def atom(self) -> Number:
        ahead = self.peek()
        if ahead.isdigit():
            return Fraction(self.take())
        if ahead == "(":
            return self.group("(", ")")
        if ahead == "|":
            inside = self.group("|", "|")
            return -inside if inside < 0 else inside
        if ahead == "\\lfloor":
            return Fraction(math.floor(self.group("\\lfloor", "\\rfloor")))
        name = self.take()
        if name in ("\\frac", "\\dfrac"):
            return self.group() / self.group()
        if name == "\\binom":
            return Fraction(math.comb(int(self.group()), int(self.group())))
        if name == "\\sqrt":
            return _root(self.group())
        if name == "\\pi":
            return math.pi
        if name == "\\gcd":
            left, right = self.pair()
            return Fraction(math.gcd(int(left), int(right)))
        if name == "\\mathrm":
            for sign in "{lcm}":
                self.take(sign)
            left, right = self.pair()
            return Fraction(math.lcm(int(left), int(right)))
        raise NoNumber(name)


def _root(square: Number) -> Number:
    if isinstance(square, Fraction):
        top, below = math.isqrt(square.numerator), math.isqrt(square.denominator)
        if top**2 == square.numerator and below**2 == square.denominator:
            return Fraction(top, below)
    return math.sqrt(square)


def _power(base: Number, exponent: int) -> Number:
    found: Number = Fraction(1)
    for _ in range(exponent):
        found *= base
    return found
