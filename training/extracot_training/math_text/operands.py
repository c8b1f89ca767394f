r"""Reads one operand of an expression: a number with its unit, a name, a bracket, a call, a LaTeX
command with its arguments, with all that is raised, lowered or put behind it.

Works on lexemes; every reader returns the index behind what it read, or the index it was given.
Keeps count of what was read, from which the expression is judged.
"""

from __future__ import annotations

from extracot_training.math_text.lexemes import Group, Kind
from extracot_training.math_text.sides import BREAKS, MOST_SCRIPTS, Sides
from extracot_training.math_text.vocabulary import (
    FUNCTIONS,
    PREFIX_COMMANDS,
    PROSE_LETTERS,
    UNITS,
    WORDLIKE,
    is_symbol,
)

_LINKS = frozenset(("per", "of", "in", "each", "every", "a", "an", "for", "more", "at"))
LONGEST_CALL = 80
# Functions of functions without brackets, at most: "sin sin sin …" must not recurse for ever.
DEEPEST = 8
_SIGNS = frozenset("-−+±∓–－＋") | {"\\pm", "\\mp"}
_DASHES = frozenset("-+–＋－")
_CALLED = frozenset(("Pr", "Var", "Cov", "sqrt", "max", "min", "gcd", "lcm"))
_BASE = frozenset({Kind.OPERATOR, Kind.RELATION, Kind.ARROW})


class Operands(Sides):
    """Reads operands from ``lexemes`` and counts them."""

    def operand(self, begin: int, *, tied: bool) -> int:
        """Behind the operand at ``begin``. ``tied``: an operator or relation stands before it, so
        that words may be one too."""
        at = self._signs(begin, tied=tied)
        end = self._base(at, tied=tied, signed=at > begin)
        if end == at:
            return begin
        self.operands += 1
        end = self._behind(end)
        if self.operands == 1:
            self.first_structured = self.structured
        return end

    def _signs(self, at: int, *, tied: bool) -> int:
        begin = at
        while at - begin < 8:
            kind = self._kinds[at]
            if kind is Kind.MARK:
                at += 1
            elif kind is Kind.OPERATOR and (sign := self._lexemes.word(at)) in _SIGNS:
                spaced = self._kinds[at + 1] is Kind.SPACE
                if spaced and not (tied or sign in _SIGNS - _DASHES):
                    return begin
                at += 1 + spaced
            elif kind is Kind.PREFIX:
                after = self._scripts(at + 1)
                at = self.skip(after)
                self.structured = True
            else:
                break
        return at

    def _base(self, at: int, *, tied: bool, signed: bool) -> int:
        kind = self._kinds[at]
        if kind is Kind.NUMBER:
            self.numbers += 1
            return self._unit(self._scripts(self._coefficient(at + 1)))
        if kind is Kind.FORMULA:
            self.numbers += 1
            return at + 1
        if kind is Kind.WORD:
            return self._word(at, tied=tied, signed=signed)
        if kind in (Kind.OPEN, Kind.PIPE):
            return self._bracket(at, tied=tied or signed)
        if kind is Kind.COMMAND:
            return self._command(at)
        if kind is Kind.SCRIPT:
            return at + 1
        if kind is Kind.OTHER and tied and self._lexemes.word(at) == "?":
            asked = self._kinds[self.skip(at + 1)] in (Kind.RELATION, Kind.OPERATOR)
            return at + 1 if asked else at
        if kind in (Kind.SYMBOL, Kind.DOTS):
            return at + 1 if tied or kind is Kind.SYMBOL else at
        return at

    # -- numbers

    def _coefficient(self, at: int) -> int:
        """``2x``: letters right behind a number belong to it."""
        word = self._lexemes.word(at)
        if (
            self._kinds[at] is Kind.WORD
            and len(word.split("_")[0]) <= 4
            and (word not in FUNCTIONS or word in UNITS)
        ):
            at = self._scripts(at + 1)
        return at

    def _unit(self, at: int) -> int:
        """What is counted ("3 apples per box") before an operator, else a known unit."""
        first = at + (self._kinds[at] is Kind.SPACE)
        place, words = at, 0
        while first > at and words < 3 and self._spaced_word(place):
            words += 1
            place += 2
            if self._counted(at, place, words):
                return place
        if self._kinds[first] is Kind.WORD and self._lexemes.word(first) in UNITS:
            if self._lexemes.word(first) == "times" and self._operand_follows(first + 1):
                return at
            structured = self.structured
            at, self.structured = self._scripts(first + 1), structured
        return at

    def _operand_follows(self, at: int) -> bool:
        behind = self.skip(at)
        return behind > at and self._kinds[behind] in (
            Kind.NUMBER, Kind.OPEN, Kind.FORMULA, Kind.COMMAND
        )  # fmt: skip

    def _counted(self, begin: int, end: int, words: int) -> bool:
        """Whether the words behind a number, up to an operator, are what it counts."""
        told = [self._lexemes.word(begin + 1 + 2 * index) for index in range(words)]
        if self._kinds[end] is Kind.RELATION and words == 1:
            return len(told[0]) > 1
        if self._lexemes.word(end) == "/" and self._kinds[end + 1] in (Kind.NUMBER, Kind.SPACE):
            return len(told[-1]) > 1 and not any(w.lower() in BREAKS for w in told)
        if self._kinds[end] is not Kind.SPACE:
            return False
        sign = self._lexemes.word(end + 1)
        if self._kinds[end + 1] not in _BASE and not (
            sign == "x" and self._operand_follows(end + 2)
        ):
            return False
        if len(told[-1]) == 1 or told[-1] in FUNCTIONS:
            return False
        if words == 3 and told[1] in _LINKS:
            return True
        if words == 1:
            return told[0] not in BREAKS
        return not any(w.lower() in BREAKS or w in _LINKS for w in told)

    # -- names and calls

    def name(self, at: int) -> bool:
        """Whether the word here is a name of mathematics by itself."""
        word = self._lexemes.word(at)
        return self._kinds[at] is Kind.COMMAND or is_symbol(word) or word in FUNCTIONS

    def _word(self, at: int, *, tied: bool, signed: bool) -> int:
        word = self._lexemes.word(at)
        if word in FUNCTIONS and (end := self._applied(at + 1)) > at + 1:
            self.structured = True
            return end
        behind = self._kinds[at + 1]
        if is_symbol(word) and (word not in PROSE_LETTERS or self._is_letter(at, tied=tied)):
            return self._called(at)
        if len(word) <= 3 and self._is_scripted(at + 1):
            return at + 1
        if word in _CALLED and behind is Kind.OPEN and (group := self._lexemes.groups.get(at + 1)):
            self.structured = True
            return group.end + 1
        if tied:
            return self._side(at)
        end = self._compound(at)
        return end if not signed and self._leads_to_relation(end) else at

    def _is_letter(self, at: int, *, tied: bool) -> bool:
        behind = self._kinds[at + 1]
        if behind in (Kind.SPACE, Kind.MARK):
            after = self.skip(at + 1)
            kind = self._kinds[after]
            if kind in (Kind.RELATION, Kind.OPERATOR):
                return True
            if kind is Kind.WORD:
                word = self._lexemes.word(after)
                return (tied or self.operands > 0) and (is_symbol(word) or word in BREAKS)
            return tied
        if behind is Kind.OPERATOR:
            return self._lexemes.word(at + 1) not in "-–"
        return behind is not Kind.POSTFIX or self._lexemes.word(at + 1) != "'"

    def _called(self, at: int) -> int:
        """A name; with ``P(`` and the like what it is of, in whatever words."""
        end = self._primes(self._scripts(at + 1))
        group = self._lexemes.groups.get(end)
        if group is None or self._kinds[end] is not Kind.OPEN:
            return end
        length = self._lexemes.ends[group.end] - self._lexemes.starts[end]
        if group.math or length <= LONGEST_CALL:
            self.structured = True
            self.numbers += group.parts > 0
            return group.end + 1
        return end

    def _applied(self, at: int) -> int:
        """Behind a function's argument, or ``at``: ``sin x``, ``log₂ 8``, ``cos²θ``."""
        if self._nested >= DEEPEST:
            return at
        self._nested += 1
        end = self._argument(at)
        self._nested -= 1
        return end

    def _argument(self, at: int) -> int:
        after = self._scripts(at)
        inner = after + (self._kinds[after] is Kind.SPACE)
        if self._kinds[inner] is Kind.SCRIPT:
            return self._applied(inner)
        kind = self._kinds[inner]
        if inner > after == at and self._lexemes.word(at - 1) in WORDLIKE:
            return at
        if kind in (Kind.OPEN, Kind.PIPE):
            group = self._lexemes.groups.get(inner)
            return self._behind(group.end + 1) if group and (group.math or inner == after) else at
        if kind is Kind.NUMBER:
            self.numbers += 1
            return self._behind(self._coefficient(inner + 1))
        if kind in (Kind.FORMULA, Kind.PREFIX):
            end = inner + 1
            return self._base(end, tied=False, signed=True) if kind is Kind.PREFIX else end
        if kind is Kind.COMMAND:
            return self._command(inner)
        if kind is Kind.WORD:
            word = self._lexemes.word(inner)
            if word in FUNCTIONS:
                return self._applied(inner + 1)
            if is_symbol(word) and (word not in "aI" or self._is_letter(inner, tied=True)):
                return self._behind(self._called(inner))
        return at

    # -- brackets and commands

    def _bracket(self, at: int, *, tied: bool) -> int:
        group = self._lexemes.groups.get(at)
        if group is None:
            return at
        pipe = self._kinds[at] is Kind.PIPE or self._lexemes.word(at) in "⌊⌈⟨"
        if group.math:
            self.numbers += 1
            self.structured = self.structured or pipe or (group.signs > 0 and self._is_tuple(group))
            if pipe or tied or group.signs > 0 or self._linked(group):
                return group.end + 1
            self.numbers -= 1
            return at
        return group.end + 1 if tied or (self._linked(group) and not pipe) else at

    def _is_tuple(self, group: Group) -> bool:
        return group.parts > 1 or group.signs > 0

    def _linked(self, group: Group) -> bool:
        """Whether an operator, a relation or something multiplied stands behind the bracket."""
        if self._is_scripted(group.end + 1):
            return True
        after = self.skip(group.end + 1)
        kind = self._kinds[after]
        if kind is Kind.OPERATOR:
            return self._joins(after, group.end + 1) or group.math
        if kind is Kind.RELATION:
            return True
        glued = after == group.end + 1 and kind in (Kind.OPEN, Kind.NUMBER, Kind.WORD, Kind.SCRIPT)
        return group.math and glued and (kind is not Kind.WORD or self.name(after))

    def _command(self, at: int) -> int:
        r"""``\frac{1}{2}``, ``\sqrt[3]{8}``, ``\sin x``, ``\alpha``."""
        word = self._lexemes.word(at)[1:]
        end = at + 1
        while self._lexemes.word(end) in ("{", "[") and (group := self._lexemes.groups.get(end)):
            end = group.end + 1
            self.structured = True
        if end == at + 1 and word in PREFIX_COMMANDS:
            inner = self._applied(end)
            if inner > end:
                self.structured = True
                return inner
            end = self._scripts(end)
        return end

    # -- what stands behind

    def _behind(self, at: int) -> int:
        """Over all that belongs to the operand before ``at``."""
        for _ in range(MOST_SCRIPTS):
            end = self._primes(self._scripts(at))
            kind = self._kinds[end]
            if kind is Kind.POSTFIX and self._lexemes.word(end)[0] != "'":
                if self._lexemes.word(end)[0] == "!":
                    self.structured = True
                end += 1
                if self._lexemes.word(end) in ("C", "F") and self._lexemes.word(end - 1) == "°":
                    end += 1
                else:
                    end = self._unit(end) if self._lexemes.word(end - 1) in ("%", "\\%") else end
            elif kind is Kind.MARK and self._closes(end):
                end += 1
            elif (
                kind is Kind.OTHER
                and self._lexemes.word(end) == "."
                and self._lexemes.word(end + 1) in ("\\overline", "\\bar", "\\dot")
            ):
                end = self._command(end + 1)
            elif kind is Kind.DOTS and self._kinds[end - 1] is Kind.NUMBER:
                end += 1
            if end == at:
                break
            at = end
        return at

    def _closes(self, at: int) -> bool:
        return self._kinds[at + 1] not in (Kind.WORD, Kind.NUMBER, Kind.OPEN)

    def after_x(self, at: int) -> bool:
        """Whether the operand before ``at`` is a lone ``x`` for ``×``, as in ``2 x 3``."""
        return self._lexemes.word(at - 1) in ("x", "X") and self._kinds[at - 2] is Kind.SPACE
