"""The markup in which phrases are written, and its rendering as text with labelled spans.

``$...$`` is mathematics in LaTeX, ``*...*`` words of negation, condition or quantity that must
stay, ``{...}`` words that name what is computed; these may nest around mathematics and protected
words. All else is filler. Mathematics is rendered in the trace's own notation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

MATH_WEIGHT = 1.0
NAME_WEIGHT = 0.6

_TWICE = re.compile(r"\b(\w+)(?: \1\b)+", re.IGNORECASE)
_DOUBLED = re.compile(
    r"\b((?:and |okay and |after )?(?:then|so|and|next)),? "
    r"(?:and )?(?:then|so|therefore|hence|thus) ",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Rendered:
    """``atoms``: (start, end, weight), sorted and disjoint. ``protected``: (start, end)."""

    text: str
    atoms: tuple[tuple[int, int, float], ...]
    protected: tuple[tuple[int, int], ...]


def render(markup: str, notation: Callable[[str], str]) -> Rendered:
    """The text of ``markup``. Raises :class:`ValueError` for marks that aren't closed."""
    text = ""
    atoms: list[tuple[int, int, float]] = []
    protected: list[tuple[int, int]] = []
    named: int | None = None
    kept: int | None = None
    for part in re.split(r"(\$[^$]*\$|[*{}])", markup):
        if re.fullmatch(r"\$[^$]*\$", part):
            _name(text, atoms, named)
            formula = notation(part[1:-1])
            atoms.append((len(text), len(text) + len(formula), MATH_WEIGHT))
            text += formula
            named = None if named is None else len(text)
        elif part == "*" and kept is None:
            _name(text, atoms, named)
            kept = len(text)
        elif part == "*" and kept is not None:
            atoms.append((kept, len(text), MATH_WEIGHT))
            protected.append((kept, len(text)))
            kept, named = None, None if named is None else len(text)
        elif part == "{":
            named = len(text)
        elif part == "}":
            _name(text, atoms, named)
            named = None
        elif "$" in part:
            raise ValueError(f"mathematics is not closed in {markup!r}")
        else:
            text += part
    if named is not None or kept is not None:
        raise ValueError(f"marks are not closed in {markup!r}")
    return Rendered(text, tuple(atoms), tuple(protected))


def _name(text: str, atoms: list[tuple[int, int, float]], start: int | None) -> None:
    """What has been written since ``start`` names something."""
    if start is None:
        return
    body = text[start:]
    begin = start + len(body) - len(body.lstrip())
    end = start + len(body.rstrip())
    if begin < end:
        atoms.append((begin, end, NAME_WEIGHT))


def capitalised(markup: str) -> str:
    """With a capital letter first, unless mathematics comes first."""
    at = 0
    while at < len(markup) and markup[at] in "*{ ":
        at += 1
    return markup[:at] + markup[at : at + 1].upper() + markup[at + 1 :]


def tidied(markup: str) -> str:
    """Single spaces, none before punctuation, and no "then then"; mathematics stays as it is."""
    parts = re.split(r"(\$[^$]*\$)", re.sub(r" {2,}", " ", markup))
    parts[::2] = [_TWICE.sub(r"\1", p) for p in parts[::2]]
    parts[::2] = [_DOUBLED.sub(r"\1 ", re.sub(r" +([,.;:?!])", r"\1", p)) for p in parts[::2]]
    return "".join(parts).strip()
