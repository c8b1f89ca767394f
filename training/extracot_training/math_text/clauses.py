"""Words that belong to an equation: ``half of 10 = 5`` is one claim, and ``10 = 5`` another.

An equation takes in the words before it, back to the beginning of the clause, where they tie what
is left of the relation to something further left (``the sum of 2 and 3 = 5``), and likewise words
behind it (``x = 3 more than y``). So no piece says what the text does not.
"""

from __future__ import annotations

from collections.abc import Sequence

from extracot_training.math_text.equations import read_equation
from extracot_training.math_text.lexemes import Kind, Lexemes
from extracot_training.math_text.plain_math import Expression

# Start, end, and whether it is more than a number with its unit.
Span = tuple[int, int, bool]

_TIES_WORDS = (
    "of plus minus times by over than from to root half twice double triple thrice third quarter "
    "square squared cubed power log negative and or between"
)
_TIES = frozenset(_TIES_WORDS.split())
_BEGINS_WORDS = (
    "so then thus hence therefore since because but if when where which that we you i he she they "
    "it is are was were have has had get gets got gives means let now here also says say see "
    "compute computes calculate find check use using do this these as with"
)
_BEGINS = frozenset(_BEGINS_WORDS.split())
_BEHIND = frozenset(
    [
        "more",
        "less",
        "fewer",
        "greater",
        "larger",
        "smaller",
        "squared",
        "cubed",
        "times",
        "half",
        "twice",
    ]
)
# What may stand between the words of one clause.
_WITHIN = frozenset(
    {Kind.WORD, Kind.SPACE, Kind.NUMBER, Kind.FORMULA, Kind.COMMAND, Kind.SCRIPT, Kind.SYMBOL,
     Kind.MARK, Kind.PREFIX, Kind.POSTFIX, Kind.CLOSE, Kind.OPEN, Kind.OPERATOR}
)  # fmt: skip
_LONGEST = 24


def whole_claims(lexemes: Lexemes, found: Sequence[Expression]) -> list[Span]:
    """Spans of the expressions, widened by the words that belong to them: sorted, disjoint."""
    claims: list[tuple[int, int, bool, bool]] = []
    for index, one in enumerate(found):
        first, last = one.first, one.last
        if claims and claims[-1][1] > first:
            continue
        if one.relation:
            first = _widened(lexemes, one, _floor(claims))
            while claims and claims[-1][0] >= first:
                claims.pop()
            if claims and claims[-1][1] > first:
                first = claims.pop()[0]
            following = (other.first for other in found[index + 1 : index + 9] if other.relation)
            limit = next(following, len(lexemes))
            last = _behind(lexemes, last, limit)
        claims.append((first, last, one.formula, one.relation))
    return [
        (lexemes.starts[first], lexemes.ends[last - 1], formula)
        for first, last, formula, _ in claims
    ]


def _floor(claims: Sequence[tuple[int, int, bool, bool]]) -> int:
    """No clause begins before the end of the last equation."""
    return next((last for _, last, _, relation in reversed(claims) if relation), 0)


def _widened(lexemes: Lexemes, one: Expression, floor: int) -> int:
    before = one.first - 1
    while before >= floor and lexemes.kinds[before] in (Kind.SPACE, Kind.MARK):
        before -= 1
    if before < floor or lexemes.kinds[before] is not Kind.WORD:
        return one.first
    tie = lexemes.word(before).lower()
    joins = tie in ("and", "or", "to", "from", "by", "between")
    correct = _correct(lexemes, one)
    if correct or (tie not in _TIES and correct is None):
        return one.first
    begin, numbers = before, 0
    for at in range(before, max(floor, one.first - _LONGEST) - 1, -1):
        kind = lexemes.kinds[at]
        if kind not in _WITHIN or (
            kind is Kind.WORD and lexemes.word(at).lower() in _BEGINS and at < before
        ):
            break
        if kind is not Kind.SPACE:
            begin = at
        numbers += kind in (Kind.NUMBER, Kind.FORMULA)
    # "5 apples and 3 pears = 8" is one claim, "and x = 3" by itself is not.
    return one.first if (joins or tie not in _TIES) and not numbers else begin


def _correct(lexemes: Lexemes, one: Expression) -> bool | None:
    """Whether its arithmetic is right by itself; ``None`` where that is not to be told."""
    text = lexemes.text[lexemes.starts[one.first] : lexemes.ends[one.last - 1]]
    equation = read_equation(text) if "=" in text else None
    return None if equation is None else equation.correct


def _behind(lexemes: Lexemes, last: int, limit: int) -> int:
    at = last + (lexemes.kinds[last] is Kind.SPACE)
    if lexemes.kinds[at] is not Kind.WORD or lexemes.word(at) not in _BEHIND:
        return last
    end = at
    for place in range(at, min(limit, at + _LONGEST)):
        kind = lexemes.kinds[place]
        if kind not in _WITHIN or (kind is Kind.WORD and lexemes.word(place).lower() in _BEGINS):
            break
        if kind is not Kind.SPACE:
            end = place
    return end + 1
