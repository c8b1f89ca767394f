"""Finds mathematics written as plain text: equations and numbers with their units.

``35 × 3 = 105``, ``x = 2(3 + 4)``, ``$12 + $7 = $19``, ``total = 5``, ``12.5 km``. One pass over
lexemes with a small state machine: no backtracking, linear in the text. LaTeX is not its business:
spans already taken are stepped over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# A plain-text formula longer than this is cut there: "1+1+1+…" must not be one atom of a megabyte.
MAX_LENGTH = 400

_UNIT_NAMES = (
    "% ° °C °F mm cm dm m km ft yd mi inch inches foot feet yard yards mile miles meter meters "
    "metre metres centimeter centimeters centimetre centimetres kilometer kilometers kilometre "
    "kilometres mg g kg t lb lbs oz gram grams kilogram kilograms pound pounds ounce ounces ton "
    "tons ml cl l L liter liters litre litres gallon gallons cup cups s sec secs second seconds "
    "min mins minute minutes h hr hrs hour hours day days week weeks month months year years mph "
    "kmh km/h m/s cent cents dollar dollars euro euros pence USD EUR GBP percent degree degrees "
    "square cubic dozen points times J kJ W kW V A Hz kHz N Pa K mol rad"
)
UNITS = frozenset(_UNIT_NAMES.split())

_LEXEME = re.compile(
    r"(?P<space>[^\S\n]+)"
    r"|(?P<number>(?:[$€£¥])?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)"
    r"|(?P<relation>[=≈≠≤≥<>≡]=?|:=|!=)"
    r"|(?P<operator>[-+−–×·∙*/÷^:]|\*\*|(?<![\w.])x(?=\s?[\d(]))"
    r"|(?P<open>[(\[{√])"
    r"|(?P<close>[)\]}²³!%°])"
    r"|(?P<word>[^\W\d_]+(?:_\w+)?)"
    r"|(?P<other>.|\n)"
)
_LINKS = frozenset(("per", "of", "in", "each", "every", "a", "an", "for", "more", "at"))
_KILOMETRES_PER_HOUR = re.compile(r"(?:km/h|m/s|°[CF])\b")


def number_spans(text: str, taken: Sequence[tuple[int, int]] = ()) -> list[tuple[int, int, bool]]:
    """Sorted, disjoint (start, end, is_formula) outside ``taken`` (sorted, disjoint spans).

    ``is_formula`` is false for a lone number with its unit, true for anything with an operator or
    relation between two operands, at least one number, or a name and a relation.
    """
    found: list[tuple[int, int, bool]] = []
    at = 0
    for start, end in [*taken, (len(text), len(text))]:
        lexemes = list(_LEXEME.finditer(text, at, start))
        at = end
        index = 0
        while index < len(lexemes):
            run = _Run(lexemes, index)
            span = run.read()
            if span is not None:
                found.append(span)
            index = max(index + 1, run.stop)
    return found


class _Run:
    """Reads one expression from ``lexemes[begin:]``; ``stop`` is the first lexeme it left."""

    def __init__(self, lexemes: list[re.Match[str]], begin: int) -> None:
        self._lexemes = lexemes
        self._begin = self._at = self.stop = begin
        self._operands = self._numbers = self._relations = self._depth = 0

    def read(self) -> tuple[int, int, bool] | None:
        """The expression as (start, end, is_formula), or ``None`` if none begins here."""
        if self._kind() not in ("number", "word", "open", "operator"):
            return None
        glued = self._begin and self._kind(-1) not in ("space", "other")
        if glued and self._kind() == "operator":
            return None
        end = None
        first = self._lexemes[self._begin].start()
        while self._operand():
            end = self._lexemes[self._at - 1].end()
            self.stop = self._at
            if end - first > MAX_LENGTH or not self._connector():
                break
        if end is None:
            return None
        formula = self._operands > 1 and (self._numbers > 0 or self._relations > 0)
        if not formula and (self._numbers == 0 or self._operands > 1):
            # No later start inside this run could do better, so it is not read again.
            return None
        return first, end, formula

    def _kind(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._lexemes[at].lastgroup or "other" if at < len(self._lexemes) else "end"

    def _text(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._lexemes[at].group() if at < len(self._lexemes) else ""

    def _operand(self) -> bool:
        """Step over brackets, sign, number or name, unit and closing brackets; false if none."""
        begin = self._at
        depth = self._depth
        while self._kind() == "open" or (self._kind() == "operator" and self._text() in "-−+"):
            depth += self._kind() == "open" and self._text() != "√"
            self._at += 1
            if self._at - begin > 8:
                break
        if self._kind() == "number":
            self._numbers += 1
            self._at += 1
            self._coefficient()
            self._unit()
        elif self._kind() == "word" and self._is_name():
            self._at += 1
        else:
            self._at = begin
            return False
        self._depth = depth
        self._operands += 1
        self._closers()
        return True

    def _coefficient(self) -> None:
        """``2x``: a letter right behind a number belongs to it."""
        if self._kind() == "word" and len(self._text().split("_")[0]) <= 2:
            self._at += 1

    def _unit(self) -> None:
        """What is counted ("3 apples per box") before an operator, else a known unit."""
        first = 1 if self._kind() == "space" else 0
        words: list[str] = []
        while first and len(words) < 3:
            behind = 2 * len(words)
            if self._kind(behind) != "space" or self._kind(behind + 1) != "word":
                break
            words.append(self._text(behind + 1))
            spaced = self._kind(behind + 2) == "space"
            if (
                spaced
                and self._kind(behind + 3) in ("relation", "operator")
                and len(words[-1]) > 1
                and (len(words) == 1 or (len(words) == 3 and words[1] in _LINKS))
            ):
                self._at += behind + 2
                return
        if self._kind(first) == "word" and self._text(first) in UNITS:
            self._at += first + 1

    def _is_name(self) -> bool:
        """A single letter, an indexed or called name, or a word next to a relation."""
        text = self._text()
        if len(text) == 1 or "_" in text or self._kind(1) == "open":
            return len(text) == 1 or "_" in text or text in ("sqrt", "max", "min", "gcd", "lcm")
        behind = 2 if self._kind(1) == "space" else 1
        return self._kind(behind) == "relation"

    def _closers(self) -> None:
        while self._kind() == "close":
            text = self._text()
            if text in ")]}":
                if self._depth == 0:
                    break
                self._depth -= 1
            self._at += 1
        if self._kind() == "word" and _KILOMETRES_PER_HOUR.match(self._text()):
            self._at += 1

    def _connector(self) -> bool:
        """Step over an operator or relation (spaces around it allowed) or an implied product."""
        begin = self._at
        if self._kind() == "space":
            self._at += 1
        spaced = self._at > begin
        if self._kind() == "relation":
            self._relations += 1
            joins = True
        elif self._kind() == "operator":
            # "5 -" and "well-known" are prose: a spaced sign needs a space on its other side too.
            prose = spaced and self._text() in "-–:*" and self._kind(1) != "space"
            joins = not prose and (spaced or self._text() != ":")
        elif self._kind() == "open" and not spaced and self._text() == "(":
            return True
        else:
            # "50% of 20 = 10", "3/4 of 12 = 9": a product in words, if a number follows.
            ahead = (self._text(), self._kind(1), self._kind(2))
            joins = self._numbers > 0 and ahead == ("of", "space", "number")
        if not joins:
            self._at = begin
            return False
        self._at += 1
        if self._kind() == "space":
            self._at += 1
        return True
