r"""Finds mathematics written as plain text: equations, expressions, and numbers with their units.

``35 × 3 = 105``, ``x² + 2x = 8``, ``|x − 2| = 3``, ``C(5,2) = 10``, ``\frac{1}{2}``, ``total = 5``,
``12.5 km``. One pass over lexemes: an operand, then connectors and operands as long as they last.
Linear in the text. Formulas that have their LaTeX delimiters are operands like any other. What
words before or behind an equation belong to it is told by :mod:`math_text.clauses`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from extracot_training.math_text.lexemes import Group, Kind, Lexemes, read_lexemes
from extracot_training.math_text.operands import Operands
from extracot_training.math_text.vocabulary import PROSE_LETTERS, SMALLER_UNITS, is_symbol

# A plain-text formula longer than this is cut there: "1+1+1+…" must not be one atom of a megabyte.
MAX_LENGTH = 900

# Digits right behind a word up to this long are part of it: ``A4``, ``log10``.
LONGEST_NAME = 4

# In a list before a relation: "x, y, z > 0".
MOST_NAMES = 6

_HYPHENS = frozenset("-–:*/")
# Signs at the beginning of a line that go on with the line before. ``>`` quotes in Markdown, and
# ``-`` and ``*`` begin the items of a list.
_CONTINUES = frozenset("=≈≠≤≥≡<×·÷−")
_WORD_OPERATORS = frozenset(("plus", "minus", "times", "mod", "over", "choose"))
_AFTER_LIST_WORDS = "and or so then which where when we the for is are as by if but because since"
_AFTER_LIST = frozenset(_AFTER_LIST_WORDS.split())
_BY = frozenset(("divided", "multiplied"))


@dataclass(frozen=True, slots=True)
class Expression:
    """Lexemes ``first`` to ``last`` (exclusive). ``formula``: more than a number with its unit;
    ``relation``: it says that something equals (is less than, …) something."""

    first: int
    last: int
    formula: bool
    relation: bool


def expressions(
    text: str, taken: Sequence[tuple[int, int]] = ()
) -> tuple[Lexemes, list[Expression]]:
    """The lexemes of ``text`` and the expressions among them, in order. ``taken`` are spans of
    LaTeX (sorted, disjoint)."""
    lexemes = read_lexemes(text, taken)
    found: list[Expression] = []
    at = 0
    kinds = lexemes.kinds
    while at < len(lexemes):
        if kinds[at] not in _BEGINS:
            at += 1
            continue
        expression, stop = _Run(lexemes).read(at)
        if expression is not None:
            found.append(expression)
        at = max(at + 1, stop)
    return lexemes, found


_BEGINS = frozenset(
    {Kind.NUMBER, Kind.WORD, Kind.OPEN, Kind.PIPE, Kind.OPERATOR, Kind.FORMULA, Kind.COMMAND,
     Kind.PREFIX, Kind.SYMBOL, Kind.SCRIPT, Kind.DOTS}
)  # fmt: skip


class _Run(Operands):
    """Reads one expression."""

    def read(self, begin: int) -> tuple[Expression | None, int]:
        """The expression that begins at lexeme ``begin``, if one does, and where to go on."""
        if not self._may_begin(begin):
            return None, begin
        end = self.operand(begin, tied=False)
        if end == begin:
            return None, begin
        soft: int | None = None
        while self._lexemes.ends[end - 1] - self._lexemes.starts[begin] <= MAX_LENGTH:
            links, relations = self.links, self.relations
            following = self._connector(end)
            if following is None:
                break
            # What is multiplied without a sign may be any bracket: "(mod 5)".
            tied = (
                self.links > links
                or self.relations > 0
                or self._kinds[following] in (Kind.OPEN, Kind.PIPE)
            )
            stop = self.operand(following, tied=tied)
            if stop == following and self.relations and self.links > links:
                stop = self._unknown(following)
            if stop == following:
                self.links, self.relations = links, relations
                break
            if not tied and following > end and soft is None and self._may_be_prose(following):
                soft = end
            end = stop
        if soft is not None and not self.links:
            end, self.operands, self.structured = soft, 1, self.first_structured
        return self._judged(begin, end), end

    def _may_be_prose(self, at: int) -> bool:
        """Whether what a space seemed to multiply may be none of it: the B of "room 5 B"."""
        certain = self.links or self.structured or self._kinds[at] in (Kind.COMMAND, Kind.PREFIX)
        return not (certain or "\u0370" <= self._lexemes.word(at) <= "\u03ff")

    def _judged(self, begin: int, end: int) -> Expression | None:
        relation = self.relations > 0
        formula = relation or self.structured or (
            self.operands > 1 and (self.numbers > 0 or self.strong > 0)
        )  # fmt: skip
        if not formula and (self.numbers == 0 or self.operands > 1):
            return None
        return Expression(begin, end, formula, relation)

    def _may_begin(self, at: int) -> bool:
        """Not within a word: the 4 of ``A4``, the sign in ``-5`` behind a letter."""
        kind, before = self._kinds[at], self._kinds[at - 1]
        if kind is Kind.OPERATOR:
            return before in (Kind.SPACE, Kind.LINE, Kind.OTHER, Kind.OPEN, Kind.MARK, Kind.END)
        if kind is Kind.DOTS:
            return False
        if kind is Kind.NUMBER and before is Kind.WORD:
            return len(self._lexemes.word(at - 1)) > LONGEST_NAME
        return True

    def _connector(self, end: int) -> int | None:
        """Where the next operand would begin, behind what ties it to the operand before it: an
        operator or relation, a word for one, nothing, or a space that multiplies."""
        at = self.skip(end)
        spaced = at > end
        kind = self._kinds[at]
        if kind is Kind.LINE:
            return self._next_line(at)
        if kind in (Kind.RELATION, Kind.ARROW):
            self.relations += kind is Kind.RELATION
            self.strong += 1
            self.links += 1
            return self._onwards(at + 1)
        if kind is Kind.OPERATOR:
            return self._behind_operator(at, spaced=spaced)
        if kind is Kind.PIPE and spaced and at not in self._lexemes.groups:
            # "3 | 12": divides.
            self.links += 1
            return self._onwards(at + 1)
        if kind is Kind.OTHER:
            return self._list(at) if self._lexemes.word(at) == "," and not spaced else None
        if kind is Kind.WORD and spaced and self.relations and self._lexemes.word(at) == "or":
            return self._one_more(self.skip(at + 1))
        if kind is Kind.WORD and spaced and (following := self._word_operator(at)):
            self.links += 1
            self.strong += 1
            return following
        return self._product(end, at)

    def _behind_operator(self, at: int, *, spaced: bool) -> int | None:
        sign = self._lexemes.word(at)
        behind = self._kinds[at + 1]
        # "5 -" and "well-known" are prose: a spaced sign needs a space on its other side too.
        if spaced and sign in _HYPHENS and behind not in (Kind.SPACE, Kind.LINE):
            after = self._kinds[self.skip(at + 2)]
            linked = self.links or self.operands > self.numbers
            if sign not in "-–" or behind is not Kind.NUMBER:
                return None
            if not linked and after not in (Kind.RELATION, Kind.OPERATOR):
                return None
        if not spaced and sign == ":" and behind in (Kind.SPACE, Kind.LINE, Kind.END):
            # Only in "f: A → B"
            mapped = self._kinds[self.skip(self.skip(at + 1) + 1)] is Kind.ARROW
            if not mapped:
                return None
        self.links += 1
        self.strong += sign not in _HYPHENS or spaced
        return self._onwards(at + 1)

    def _onwards(self, at: int) -> int:
        """Over spaces, and over one line break: ``x =`` may go on in the next line."""
        at = self.skip(at)
        if self._kinds[at] is Kind.LINE and self._kinds[self.skip(at + 1)] not in (
            Kind.LINE, Kind.OPERATOR, Kind.WORD,
        ):  # fmt: skip
            at = self.skip(at + 1)
        return at

    def _next_line(self, at: int) -> int | None:
        at = self.skip(at + 1)
        kind, sign = self._kinds[at], self._lexemes.word(at)
        if kind is Kind.RELATION and (sign[0] in _CONTINUES or sign[0] == "\\"):
            self.relations += 1
        elif kind is not Kind.OPERATOR or sign not in _CONTINUES:
            return None
        self.links += 1
        return self._onwards(at + 1)

    def _word_operator(self, at: int) -> int | None:
        """Behind ``plus``, ``times``, ``divided by``, ``of``, ``x`` between two operands."""
        word = self._lexemes.word(at)
        following = self.skip(at + 1)
        if word in ("x", "X") and self.numbers:
            return following if self._numeric(following) else None
        if word in _BY and self._lexemes.word(following) == "by":
            following = self.skip(following + 1)
        elif word == "of":
            # "50% of 20 = 10", "3/4 of 12 = 9"
            return following if self.numbers and self._numeric(following) else None
        elif word not in _WORD_OPERATORS:
            return None
        return following if self._symbolic(following) else None

    def _numeric(self, at: int) -> bool:
        return self._kinds[at] in (Kind.NUMBER, Kind.OPEN, Kind.PREFIX, Kind.FORMULA)

    def _symbolic(self, at: int) -> bool:
        return self._numeric(at) or (self._kinds[at] in (Kind.WORD, Kind.COMMAND) and self.name(at))

    def _product(self, end: int, at: int) -> int | None:
        """``2(3 + 4)``, ``2πr``, ``3√2``; with a space ``2 x``, ``4 a c``, ``2 (3 + 4)``."""
        kind = self._kinds[at]
        if at == end:
            fits = kind in _GLUES or (kind is Kind.WORD and self.name(at))
            return at if fits or self._group(at) is not None else None
        if self._kinds[end - 1] is Kind.MARK:
            return None
        if kind in (Kind.PREFIX, Kind.COMMAND):
            return at
        if kind is Kind.FORMULA:
            return at if self._lexemes.word(at).startswith("\\begin") else None
        if kind is Kind.NUMBER:
            factor = self._kinds[end - 1] is Kind.CLOSE and self._linked_number(at)
            return at if factor or self._continues_measure(end, at) or self.after_x(end) else None
        if kind is Kind.WORD:
            return at if self.name(at) and self._alone(at) else None
        group = self._group(at)
        if group is None or (kind is Kind.PIPE and not group.math):
            return None
        behind = self.skip(group.end + 1)
        linked = self._kinds[behind] in (Kind.RELATION, Kind.OPERATOR)
        modulus = self._lexemes.word(at + 1) == "mod"
        tied = self.links > 0 or (self.structured and group.signs > 0)
        return at if modulus or linked or (group.math and tied) else None

    def _group(self, at: int) -> Group | None:
        if self._kinds[at] not in (Kind.OPEN, Kind.PIPE):
            return None
        return self._lexemes.groups.get(at)

    def _linked_number(self, at: int) -> bool:
        """``(1/2) 18 = 9``: not the second number of "(5) 18 days"."""
        return self._kinds[self.skip(at + 1)] is Kind.RELATION

    def _alone(self, at: int) -> bool:
        """A letter that stands for itself: "2 a b", not the article in "2 a day"."""
        word = self._lexemes.word(at)
        if word not in PROSE_LETTERS:
            return True
        behind = self.skip(at + 1)
        kind = self._kinds[behind]
        return kind in (Kind.RELATION, Kind.OPERATOR) or (
            kind is Kind.WORD and is_symbol(self._lexemes.word(behind))
        )

    def _continues_measure(self, end: int, at: int) -> bool:
        """The 2 in "3 ft 2 in": a number whose unit follows one."""
        if self._lexemes.word(end - 1) not in SMALLER_UNITS:
            return False
        unit = at + 1 + (self._kinds[at + 1] is Kind.SPACE)
        return self._lexemes.word(unit) in SMALLER_UNITS

    def _list(self, comma: int) -> int | None:
        """``x = 1, 2, 3`` and ``x, y > 0``: what follows the comma is one more of the same."""
        at = self.skip(comma + 1)
        if self._kinds[comma + 1] is not Kind.SPACE:
            return None
        if self.relations:
            if self._kinds[at] is Kind.WORD and self._lexemes.word(at) in ("or", "and"):
                at = self.skip(at + 1)
            return self._one_more(at)
        names = not self.numbers and not self.links and self.operands < MOST_NAMES
        if names and self._kinds[at] is Kind.WORD:
            word = self._lexemes.word(at)
            behind = self.skip(at + 1)
            follows = self._kinds[behind] is Kind.RELATION
            if is_symbol(word) and (follows or self._lexemes.word(behind) == ","):
                return at
        return None

    def _one_more(self, at: int) -> int | None:
        """``at``, if one more value stands there by itself: no beginning of something else."""
        end = at
        if self._kinds[at] is Kind.OPERATOR and self._lexemes.word(at) in "-−±":
            end = self.skip(at + 1)
        group = self._group(at)
        if group is not None and group.math:
            end = group.end
        elif self._kinds[end] not in (Kind.NUMBER, Kind.DOTS):
            return None
        behind = self.skip(end + 1)
        kind = self._kinds[behind]
        if kind is Kind.WORD and behind > end + 1:
            return at if self._lexemes.word(behind) in _AFTER_LIST else None
        return at if kind in _LIST_ENDS else None

    def _unknown(self, at: int) -> int:
        """``x = ?`` and ``x = the number of apples``: a relation keeps what it is about."""
        if self._lexemes.word(at) == "?":
            return at + 1
        return self.phrase(at)


_LIST_ENDS = frozenset(
    {Kind.OTHER, Kind.LINE, Kind.END, Kind.DOTS, Kind.CLOSE, Kind.POSTFIX, Kind.MARK}
)
_GLUES = frozenset({Kind.FORMULA, Kind.COMMAND, Kind.PREFIX, Kind.NUMBER, Kind.SYMBOL, Kind.SCRIPT})
