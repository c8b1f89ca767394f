"""What stands around an operand: what is raised, lowered or marked, and sides that are told in
words: ``speed × time = 60``.

Every reader returns the index behind what it read, or the index it was given.
"""

from __future__ import annotations

from extracot_training.math_text.lexemes import Kind, Lexemes

# Words that begin a clause of their own: never part of what is counted.
BREAKS_WORDS = (
    "and so then thus hence therefore since because but if when where which that we you i he she "
    "they it is are was were have has get gets gives means let or as with to the this these"
)
BREAKS = frozenset(BREAKS_WORDS.split())
# Words at most in a side of an equation that is told in words.
LONGEST_PHRASE = 6
# Lexemes at most between a word and the relation that makes it a side.
_LOOK_AHEAD = 24
# Of one operand: "x^x^x^…" must not be one atom of a megabyte.
MOST_SCRIPTS = 16
_TIED_BY = frozenset("/-–'’")
_WEAK = frozenset("-–:/*")
_WITHIN_SIDE = frozenset(
    {Kind.NUMBER, Kind.WORD, Kind.FORMULA, Kind.COMMAND, Kind.SYMBOL, Kind.SCRIPT, Kind.POSTFIX,
     Kind.SPACE, Kind.OPERATOR, Kind.OPEN, Kind.CLOSE, Kind.MARK}
)  # fmt: skip


class Sides:
    """Reads from ``lexemes``, and counts what an expression is judged by."""

    def __init__(self, lexemes: Lexemes) -> None:
        self._lexemes = lexemes
        self._kinds = lexemes.kinds
        self.operands = self.numbers = self.relations = self.links = self.strong = 0
        self.structured = self.first_structured = False
        self._nested = 0

    def skip(self, at: int) -> int:
        """Behind spaces and Markdown's signs."""
        while self._kinds[at] in (Kind.SPACE, Kind.MARK):
            at += 1
        return at

    def _scripts(self, at: int) -> int:
        """Over what is raised or lowered: ``²``, ``^{n+1}``, ``^-1``, ``_2``."""
        for _ in range(MOST_SCRIPTS):
            kind = self._kinds[at]
            if kind is Kind.SCRIPT:
                at += 1
            elif kind is Kind.OPERATOR and self._lexemes.word(at) in ("^", "_"):
                end = self._script(at + 1)
                if end == at + 1:
                    return at
                at = end
            else:
                return at
            self.structured = True
        return at

    def _script(self, at: int) -> int:
        kind, word = self._kinds[at], self._lexemes.word(at)
        if kind is Kind.OPEN:
            group = self._lexemes.groups.get(at)
            return at if group is None else group.end + 1
        if kind in (Kind.NUMBER, Kind.WORD, Kind.COMMAND, Kind.SYMBOL):
            return at + 1
        if word == "'" or (kind is Kind.OPERATOR and word in "*∘+-−"):
            signed = self._kinds[at + 1] in (Kind.NUMBER, Kind.WORD)
            return at + 1 + signed
        return at + 1 if word in ("\\circ", "\\ast", "\\star", "°") else at

    def _primes(self, at: int) -> int:
        """``f'``, ``x′``: no apostrophe, behind which a letter would stand."""
        while self._kinds[at] is Kind.POSTFIX and self._lexemes.word(at) in "'′″‴":
            if self._kinds[at + 1] is Kind.WORD:
                return at
            at += 1
        return at

    def _is_scripted(self, at: int) -> bool:
        kind = self._kinds[at]
        return kind is Kind.SCRIPT or (
            kind is Kind.OPERATOR and self._lexemes.word(at) in ("^", "_")
        )

    def _spaced_word(self, at: int) -> bool:
        return self._kinds[at] is Kind.SPACE and self._kinds[at + 1] is Kind.WORD

    def _compound(self, at: int) -> int:
        """Words tied without spaces: ``km/day``, ``well-known``."""
        end = at + 1
        while self._kinds[end + 1] is Kind.WORD and self._lexemes.word(end) in _TIED_BY:
            end += 2
        return end

    def _side(self, at: int) -> int:
        """Words behind an operator, up to the next one: ``distance / time = 3``."""
        end, words = at, 0
        while words < LONGEST_PHRASE and self._kinds[end] in (Kind.WORD, Kind.NUMBER):
            if words and self._lexemes.word(end).lower() in ("so", "then", "and", "which", "where"):
                break
            words += 1
            end = self._compound(end)
            after = self.skip(end)
            group = self._lexemes.groups.get(after)
            if group is not None and self._kinds[after] is Kind.OPEN:
                after = self.skip(group.end + 1)
                if self._kinds[after] in (Kind.OPERATOR, Kind.RELATION):
                    end = group.end + 1
            kind = self._kinds[after]
            if kind is Kind.RELATION or (kind is Kind.OPERATOR and self._joins(after, end)):
                return end
            if self._kinds[end] is not Kind.SPACE:
                break
            end += 1
        return at

    def phrase(self, at: int) -> int:
        """Words behind a relation: up to the end of the clause, or six of them."""
        end = at
        for _ in range(LONGEST_PHRASE):
            if self._kinds[end] not in (Kind.WORD, Kind.NUMBER):
                break
            if end > at and self._lexemes.word(end).lower() in BREAKS - {"the", "to", "with"}:
                break
            end += 1
            if not self._spaced_word(end):
                return end
            end += 1
        while end > at and self._kinds[end - 1] is Kind.SPACE:
            end -= 1
        return end

    def _joins(self, at: int, end: int) -> bool:
        """Whether an operator behind words is one, and no hyphen, dash or slash of prose."""
        if self._lexemes.word(at) not in _WEAK:
            return True
        spaced = at > end
        return spaced and self._kinds[at + 1] is Kind.SPACE

    def _leads_to_relation(self, end: int) -> bool:
        """``speed × time = …``: a word is a side if operators lead on to a relation."""
        after = self.skip(end)
        if self._kinds[after] is Kind.OPEN and (group := self._lexemes.groups.get(after)):
            if group.math and after > end:
                return False
            after = self.skip(group.end + 1)
        kind = self._kinds[after]
        if kind is Kind.RELATION:
            return True
        if kind is not Kind.OPERATOR or not self._joins(after, end):
            return False
        for place in range(after + 1, after + _LOOK_AHEAD):
            kind = self._kinds[place]
            if kind is Kind.RELATION:
                return True
            if kind not in _WITHIN_SIDE:
                return False
        return False
