"""A problem that is being told: its sentences, its calculations and its question.

Every calculation is made here, so that none can be wrong. What may not be (below zero, above the
cap, a division that does not come out) raises :class:`Reject`, and the problem is drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from extracot_training.synthetic.arithmetic.spelling import spelled
from extracot_training.synthetic.arithmetic.written import result
from extracot_training.synthetic.relations.bank import Person, Voice, named, person, rules
from extracot_training.synthetic.story import Op, Reject, singular

# The last plural of a phrase that has no singular by rule.
SINGULARS = {"leaves": "leaf", "scarves": "scarf", "boxes": "box", "potatoes": "potato"}
SINGULARS |= {"tomatoes": "tomato", "cherries": "cherry", "strawberries": "strawberry"}
SINGULARS |= {"batteries": "battery", "cookies": "cookie", "peaches": "peach", "coffees": "coffee"}
SPELLED_TO = 12


def one_of(plural: str) -> str:
    """The singular.

    >>> one_of("toy cars"), one_of("scarves"), one_of("boxes")
    ('toy car', 'scarf', 'box')
    """
    return SINGULARS.get(plural) or singular(plural)


@dataclass(frozen=True, slots=True)
class Calculation:
    """``left op right``; a quotient with a remainder says whether ``kept`` is that remainder.
    ``thus`` says in a sentence what the result is, ``note`` what comes before, ``told`` what the
    text says of it, if anything."""

    op: Op
    left: int
    right: int
    thus: str = ""
    kept: int | None = None
    note: str = ""
    told: str = ""

    @property
    def value(self) -> int:
        return result(self.op, self.left, self.right) if self.kept is None else self.kept


@dataclass(slots=True)
class Problem:
    """``cents``: calculations are in cents, and the answer in whole money. ``two_digits``: sums and
    differences of two digits are written out too."""

    rng: Random
    cap: int
    voice: Voice
    other: Person
    facts: list[str] = field(default_factory=list)
    steps: list[Calculation] = field(default_factory=list)
    ask: str = ""
    asides: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    cents: bool = False
    spells: bool = False
    two_digits: bool = False
    seen: int = 0

    def n(self, value: int) -> str:
        """A number as this text writes it."""
        if self.spells and value <= SPELLED_TO:
            return spelled(value)
        return f"{value:,}" if value > 9999 else str(value)

    def draw(self, low: int, high: int) -> int:
        """A number within both; small ones a little more often. :class:`Reject` if there is none"""
        if high < low:
            raise Reject
        return min(self.rng.randint(low, high), self.rng.randint(low, high + (high - low) // 2))

    def fact(self, rule: str, **slots: str) -> None:
        self.facts.append(self.voice.say(rule, slots))

    def question(self, rule: str, *, past: bool | None = None, **slots: str) -> None:
        """Asked in the tense of the facts, or as of now: always so where it says that."""
        template = self.voice.one(rule)
        if past is None:
            past = self.voice.past and " now" not in template and self.rng.random() < 0.4
        self.ask = self.voice.filled(template, slots, past=past)

    def counted(self, value: int) -> str:
        return f"{self.n(value)} {self.voice.slots['x']}"

    def calc(self, op: Op, left: int, right: int, thus: str = "", note: str = "") -> int:
        """The result, a step more. ``thus`` is a rule for what it means."""
        if op is Op.DIV and (right == 0 or left % right):
            raise Reject
        made = result(op, left, right)
        if not 0 < made <= max(self.cap * 10 if self.cents else self.cap, 20):
            raise Reject
        shown = {"n": str(made), "nx": f"{made} {self.voice.slots['x']}"}
        said = self.voice.say(thus, shown, past=False) if thus and made > 1 else ""
        self.steps.append(Calculation(op, left, right, said, note=note, told=self._new()))
        return made

    def _new(self) -> str:
        """The sentences since the last calculation."""
        since, self.seen = self.facts[self.seen :], len(self.facts)
        return " ".join(since)

    def by_name(self) -> None:
        """From now on the person is called by name: a pronoun could be the other's."""
        if not self.voice.who.several:
            self.voice.slots["s"] = self.voice.who.name

    def divided(self, left: int, right: int, *, rest: bool) -> int:
        """A division that does not come out: the remainder, or how often it goes."""
        times, left_over = divmod(left, right)
        if not left_over or not times:
            raise Reject
        kept = left_over if rest else times
        self.steps.append(Calculation(Op.DIV, left, right, kept=kept, told=self._new()))
        return kept

    @property
    def value(self) -> int:
        return self.steps[-1].value


def begun(rng: Random) -> Problem:
    """A problem of which only the persons and the manner are known."""
    cap = rng.choices((20, 50, 100, 300, 1000), (22, 22, 28, 16, 12))[0]
    who = person(rng)
    other = named(rng, who.name)
    slots = who.slots("A") | other.slots("B")
    kept = ("holder", "red", "blue", "site", "stick")
    slots |= {name: rng.choice(rules()[name]) for name in kept}
    boxes = rng.choice(rules()["boxes"])
    slots |= {"boxes": boxes, "box": one_of(boxes), "x": ""}
    voice = Voice(rng, who, slots, rng.random() < 0.45)
    return Problem(rng, cap, voice, other, spells=rng.random() < 0.12)


def different(rng: Random, choices: Sequence[str], from_: str) -> str:
    return rng.choice([one for one in choices if one != from_])
