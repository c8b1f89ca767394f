"""How a trace writes mathematics: LaTeX with one kind of delimiter, or plain text.

Formulas are authored in LaTeX; :func:`plain` says them without. This module does not know what
the formulas mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from typing import Literal

Delimiters = Literal["dollars", "brackets", "none"]

_SIGNS = {
    r"\le": "≤", r"\ge": "≥", r"\ne": "≠", r"\pi": "π", r"\pm": "±", r"\ldots": "...",
    r"\dots": "...", r"\approx": "≈", r"\equiv": "≡", r"\angle": "angle ", r"\mid": "|",
    r"\lt": "<", r"\gt": ">", r"\left": "", r"\right": "", r"\%": "%", r"\,": " ", r"\quad": "  ",
    r"\Rightarrow": "=>", r"\to": "->", r"\alpha": "alpha", r"\beta": "beta", r"\gamma": "gamma",
    r"\times": "×", r"\cdot": "·", r"\div": "÷", r"\in": " in ", r"\cup": " ∪ ", r"\cap": " ∩ ",
    r"\lfloor": "⌊", r"\rfloor": "⌋",
    r"\triangle": "triangle ", r"\gcd": "gcd", r"\sum": "sum", r"\bmod": "mod", r"\not": "not ",
}  # fmt: skip
_ASCII = {"≤": "<=", "≥": ">=", "≠": "!=", "π": "pi", "±": "+-", "≈": "~", "≡": "=", "×": "*",
          "·": "*", "÷": "/", "∪": "or", "∩": "and", "°": " degrees"}  # fmt: skip
_COMMAND = re.compile(r"\\(?:[A-Za-z]+|[,%])")
_ATOMIC = re.compile(r"[\w.!√π()]+|\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Notation:
    """``bare``: numbers alone stand without delimiters. ``fraction``: the command for fractions.
    ``times``: the sign in LaTeX. ``ascii_only``: plain text without special signs."""

    delimiters: Delimiters
    bare: bool = False
    fraction: str = r"\frac"
    times: str = r"\cdot"
    ascii_only: bool = False
    tight: bool = False

    @staticmethod
    def draw(rng: Random) -> Notation:
        return Notation(
            rng.choice(("dollars", "dollars", "brackets", "none", "none")),
            bare=rng.random() < 0.5,
            fraction=r"\dfrac" if rng.random() < 0.1 else r"\frac",
            times=rng.choice((r"\cdot", r"\times", r"\times")),
            ascii_only=rng.random() < 0.5,
            tight=rng.random() < 0.2,
        )

    def __call__(self, latex: str) -> str:
        """The formula as it stands in the text, delimiters included. ``!`` in front of it sets it
        apart as display mathematics, where there is LaTeX."""
        apart, latex = latex.startswith("!"), latex.removeprefix("!")
        if self.delimiters == "none":
            return self._plain(latex)
        if apart:
            return f"\\[{self.latex(latex)}\\]"
        if self.bare and re.fullmatch(r"-?\d+", latex):
            return latex
        body = self.latex(latex)
        return f"${body}$" if self.delimiters == "dollars" else f"\\({body}\\)"

    def latex(self, latex: str) -> str:
        """The formula in this notation's LaTeX, without delimiters."""
        body = latex.replace(r"\frac", self.fraction).replace(r"\cdot", self.times)
        return re.sub(r"(?<=[\w}])\s*([=+])\s*(?=[\w\\])", r"\1", body) if self.tight else body

    def _plain(self, latex: str) -> str:
        # "6! = 720" would end a sentence after the "!".
        text = re.sub(r"(?<=\w)!", " factorial", plain(latex))
        if self.ascii_only:
            text = re.sub(r"√\((.*?)\)|√(\w+)", lambda m: f"sqrt({m[1] or m[2]})", text)
            for sign, spelled in _ASCII.items():
                text = text.replace(sign, spelled)
        return text


def plain(latex: str) -> str:
    """A formula without LaTeX.

    >>> plain(r"\\frac{36}{5} \\cdot \\sqrt{2}")
    '36/5 · √2'
    """
    text = latex.replace("^\\circ", "°")
    while (found := re.search(r"\\(d?frac|binom|sqrt|text|mathrm|boxed)\s*\{", text)) is not None:
        first, at = _group(text, found.end() - 1)
        name = found.group(1)
        if name.endswith("frac") or name == "binom":
            second, at = _group(text, at)
            said = (
                f"C({plain(first)}, {plain(second)})"
                if name == "binom"
                else f"{_bracketed(first)}/{_bracketed(second)}"
            )
            if name != "binom" and re.match(r"\s*[\w(\\]", text[at:]):
                said = f"({said})"
        elif name == "sqrt":
            said = f"√{_bracketed(first)}"
        else:
            said = first
        text = text[: found.start()] + said + text[at:]
    text = _COMMAND.sub(lambda m: _SIGNS.get(m.group(), m.group()[1:]), text)
    text = re.sub(r"\^\{([^{}]*)\}", lambda m: f"^{_bracketed(m[1])}", text)
    text = re.sub(r"_\{([^{}]*)\}", r"_\1", text)
    text = text.replace("\\{", "{").replace("\\}", "}")
    return re.sub(r" {2,}", " ", text).strip()


def _bracketed(latex: str) -> str:
    said = plain(latex)
    return said if _ATOMIC.fullmatch(said) else f"({said})"


def _group(text: str, at: int) -> tuple[str, int]:
    """The content of the braces that open at ``at``, and the position behind them."""
    depth = 0
    for position in range(at, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[at + 1 : position], position + 1
    raise ValueError(f"braces are not closed in {text!r}")
