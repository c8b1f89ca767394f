"""Reads a step of a trace: the values and symbols that it defines, and those that it uses.

Values are exact (:mod:`extracot_training.math_text.values`), so ``7.2`` later refers to
``\\frac{36}{5}`` here. A definition is a name with a value (``x = 5``, ``AB = 4√3``,
``P(A) = 2/3``, "the radius is 6"), or with an expression (``c = a + b``). This module does not know
what other steps say.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from extracot_training.compression.segment import FORMULAS, Atom, Kind
from extracot_training.math_text.values import exact, flat, key_of, value_key

_RELATION = re.compile(r"(?<![<>≤≥!:])(=+|≈|≡)(?!>)")
_PARTS = re.compile(
    r"⇒|⟺|<=>|=>|;|,(?!\d{3}(?!\d))(?![^()]*\))|\b(?:and|or|so|with|where|if|then)\b"
)
_PLAIN_VALUE = re.compile(r"[-($€£]*[\d.,]*\s*(?:√\(?\d+\)?)?\s*(?:/\s*\d+)?π?\)*\s*[^\d+*/()√]*")
_FRACTION = re.compile(r"\(?(\d{1,9})\s*/\s*(\d{1,9})\)?")
_INEQUALITY = re.compile(r"[<>≤≥≠]")
_SYMBOL_TEXT = (
    r"(?:[∠△]\s?[A-Za-z]{1,3}|[A-Za-zα-ωΔ]_\w+'*|[A-Za-z]\([^()]{1,12}\)|\[[A-Z]{3,4}\]"
    r"|\|[^|\s]{1,8}\||[A-Z]{2,4}(?![a-z])|(?<![A-Za-z])[A-Za-zα-ω]'*(?![A-Za-z]))"
)
_SYMBOL = re.compile(_SYMBOL_TEXT)
_NUMBER = re.compile(
    r"(?<![\w.])(?:\d+(?:\.\d+)?)?√\(?\d+\)?(?:/\d+)?|\d{1,3}(?:,\d{3})+(?!\d)|\d+(?:\.\d+)?(?:\s?/\s?\d+)?|\d*π"
)
_VERB_WORDS = """
is are was were equals equal gives give gave get got gets makes make leaves leave becomes become
yields yield total totals be need needs have has only there's it's that's
"""
_VERBS = frozenset(_VERB_WORDS.split())
_STOP_WORDS = """
the a an of so then now that this it which i we there here total also just and or but be to in at
for by with as on from get gives is are was were
"""
_STOP = frozenset(_STOP_WORDS.split())
_SPELLED = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "twenty": 20, "thirty": 30, "half": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StepReading:
    """What a step says. ``defines``: (name, value or expression), in order; ``results``: values
    that stand as an outcome; ``uses``: other values; ``names``: symbols that occur; ``relations``:
    formulas without a value, in a normal form; ``wrong``: an equation is false."""

    defines: tuple[tuple[str, str], ...] = ()
    results: frozenset[str] = frozenset()
    uses: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    relations: frozenset[str] = frozenset()
    equations: int = 0
    wrong: bool = False

    @property
    def values(self) -> frozenset[str]:
        return self.results | self.uses


@dataclass(slots=True)
class _Found:
    defines: list[tuple[str, str]] = field(default_factory=list)
    results: set[str] = field(default_factory=set)
    uses: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    relations: set[str] = field(default_factory=set)
    equations: int = 0
    wrong: bool = False


def read_step(atoms: Sequence[Atom]) -> StepReading:
    """Reads the atoms of one step."""
    found = _Found()
    for index, atom in enumerate(atoms):
        if atom.kind in FORMULAS:
            _formula(atom.body, found)
        elif atom.kind is Kind.NUMBER:
            _stated(atoms, index, found)
        elif atom.kind is Kind.WORD:
            _word(atom.body, found)
    return StepReading(
        tuple(dict.fromkeys(found.defines)), frozenset(found.results),
        frozenset(found.uses - found.results), frozenset(found.names),
        frozenset(found.relations), found.equations, found.wrong,
    )  # fmt: skip


def question_values(text: str) -> frozenset[str]:
    """The values that a question states, in digits or as words."""
    plain = flat(text)
    found = {key for key in _numbers(plain)}
    found |= {str(n) for w in re.findall(r"[a-z]+", plain.lower()) if (n := _SPELLED.get(w))}
    return frozenset(found)


def _formula(body: str, found: _Found) -> None:
    text = flat(body.strip().rstrip(".,;:!?"))
    for part in _PARTS.split(text):
        part = part.strip(" .,;:")
        if part:
            _chain(part, found)


def _chain(part: str, found: _Found) -> None:
    """One relation chain: ``AB = √(48) = 4√3``."""
    sides = [side.strip() for side in _RELATION.split(part)[::2]]
    for side in sides:
        found.names |= {_tight(name) for name in _SYMBOL.findall(_without_words(side))}
    if len(sides) < 2:
        key = value_key(part)
        if key is None and (_INEQUALITY.search(part) or _SYMBOL.search(_without_words(part))):
            found.relations.add(_tight(part))
        found.uses |= {key} if key is not None else set(_numbers(part))
        if (fraction := _FRACTION.fullmatch(part)) and math.gcd(*map(int, fraction.groups())) > 1:
            found.uses |= _parts(part)  # one in lowest terms is a value
        return
    found.equations += 1
    keys = [value_key(side) for side in sides]
    valued = [key for key in keys if key is not None]
    approximate = "≈" in part or "≡" in part or "mod" in part
    found.wrong |= len(set(valued)) > 1 and not approximate
    result = valued[-1] if valued else None
    for place, (side, key) in enumerate(zip(sides, keys, strict=True)):
        name = _name(side)
        if place + 1 < len(sides):  # what is divided here, not an outcome
            found.uses |= _parts(side)
        if key is None and name is not None:
            others = [other for other in sides if other != side]
            expression = _tight(others[-1]) if others else ""
            found.defines.append((name, result if result is not None else expression))
        elif key is None or key != result or not _single(side):
            found.uses |= set(_numbers(side))
    if result is not None:
        found.results.add(result)
    if len(valued) < len(sides):
        found.relations.add("=".join(map(_tight, sides)))


def _stated(atoms: Sequence[Atom], index: int, found: _Found) -> None:
    """A number in prose: an outcome if a verb that says so is near before it."""
    text = flat(atoms[index].body)
    keys = [key] if (key := value_key(text)) is not None else _numbers(text)
    before = [atom.body.lower().strip(",:;") for atom in atoms[max(0, index - 6) : index]]
    verb = next((at for at in range(len(before) - 1, -1, -1) if before[at] in _VERBS), None)
    if verb is None or len(before) - verb > 3:
        found.uses |= set(keys)
        return
    found.results |= set(keys)
    noun = next((word for word in reversed(before[:verb]) if word.isalpha()), "")
    if keys and noun and noun not in _STOP and noun not in _VERBS:
        found.defines.append((noun, keys[-1]))


def _word(body: str, found: _Found) -> None:
    word = body.strip(".,;:!?()\"'“”")
    number = _SPELLED.get(word.lower())
    if number:
        found.uses.add(str(number))
    elif _SYMBOL.fullmatch(word) and word not in ("a", "A", "I", "OK", "NO", "So"):
        found.names.add(_tight(word))


def _name(side: str) -> str | None:
    side = side.strip()
    if _SYMBOL.fullmatch(side):
        return _tight(side)
    words = re.fullmatch(r"(?:[A-Za-z]{3,}\s+)*([A-Za-z]{3,})", side)
    return words.group(1).lower() if words else None


def _single(side: str) -> bool:
    return bool(_PLAIN_VALUE.fullmatch(side.strip()))


def _numbers(text: str) -> list[str]:
    keys = []
    for match in _NUMBER.finditer(text):
        value = exact(re.sub(r"\s", "", match.group()))
        if value is not None:
            keys.append(key_of(value))
    return keys


def _parts(text: str) -> set[str]:
    """What a division divides and by what; nothing where none is."""
    sides = text.split("/")
    return {key for side in sides for key in _numbers(side)} if len(sides) > 1 else set()


def _without_words(text: str) -> str:
    return re.sub(r"(?<![A-Za-z_])(?![A-Z]{2,4}(?![A-Za-z]))[A-Za-z]{2,}(?![A-Za-z(])", " ", text)


def _tight(text: str) -> str:
    return re.sub(r"\s+", "", text)
