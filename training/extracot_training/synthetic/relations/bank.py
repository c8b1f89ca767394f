"""The wordings: rules of alternatives in ``wording/*.txt``, and verbs that agree with who acts.

``[rule]`` is followed by one alternative a line. A place in braces is filled from the slots; what
is no slot is a verb: ``{buy}`` agrees with the person of the story, ``{buy_}`` with one other,
``{buy_p}`` with several, ``{buy0}`` is the bare form. Knows no quantity.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from random import Random

from extracot_training.synthetic.wording import read_rules

PAST = {
    **{"are": "were", "be": "was", "begin": "began", "break": "broke", "bring": "brought"},
    **{"build": "built", "buy": "bought", "can": "could", "choose": "chose", "come": "came"},
    **{"cost": "cost", "cut": "cut", "do": "did", "draw": "drew", "drink": "drank", "eat": "ate"},
    **{"find": "found", "get": "got", "give": "gave", "go": "went", "grow": "grew", "have": "had"},
    **{"hold": "held", "keep": "kept", "lay": "laid", "learn": "learned", "leave": "left"},
    **{"lend": "lent", "lose": "lost", "make": "made", "meet": "met", "pay": "paid", "put": "put"},
    **{"read": "read", "sell": "sold", "sew": "sewed", "sit": "sat", "sleep": "slept"},
    **{"spend": "spent", "split": "split", "stand": "stood", "swim": "swam", "take": "took"},
    **{"throw": "threw", "win": "won", "write": "wrote", "drop": "dropped", "swap": "swapped"},
    **{"hand": "handed", "stop": "stopped", "knit": "knitted", "carry": "carried"},
}
# Slots that are drawn for every sentence anew.
DRAWN = ("day", "place", "relative", "thing")
THIRD = {"have": "has", "be": "is", "do": "does", "go": "goes", "can": "can", "are": "are"}
_PLACE = re.compile(r"\{([A-Za-z]\w*)\}")
_VERB = re.compile(r"([a-z]+?)(_p|_|0)?")


@cache
def rules() -> Mapping[str, tuple[str, ...]]:
    """All rules by name."""
    folder = files("extracot_training.synthetic.relations") / "wording"
    texts = (file for file in folder.iterdir() if file.name.endswith(".txt"))
    return read_rules(sorted(texts, key=lambda file: file.name))


def conjugated(lemma: str, *, third: bool, past: bool) -> str:
    """``buys``, ``buy`` or ``bought``.

    >>> conjugated("carry", third=True, past=False), conjugated("wash", third=True, past=False)
    ('carries', 'washes')
    """
    ends_in_y = lemma.endswith("y") and lemma[-2] not in "aeou"
    if past:
        regular = f"{lemma[:-1]}ied" if ends_in_y else f"{lemma}{'d' if lemma[-1] == 'e' else 'ed'}"
        return PAST.get(lemma, regular)
    if not third:
        return lemma
    hissing = lemma.endswith(("s", "x", "sh", "ch", "o"))
    regular = f"{lemma[:-1]}ies" if ends_in_y else f"{lemma}{'es' if hissing else 's'}"
    return THIRD.get(lemma, regular)


@dataclass(frozen=True, slots=True)
class Person:
    """Who acts: a name or ``I``, and the pronouns. ``several`` takes the plain verb."""

    name: str
    subject: str
    object: str
    possessive: str
    several: bool = False

    @property
    def owner(self) -> str:
        """``Tom's``, ``my``, ``the twins'``."""
        if self.name == "I":
            return "my"
        return f"{self.name}'" if self.name.endswith("s") and self.several else f"{self.name}'s"

    def slots(self, letter: str) -> dict[str, str]:
        """``{A}`` and ``{Ap}``, and the pronouns, which are the plain ones for ``A``."""
        named = {letter: self.name, f"{letter}p": self.owner}
        if letter == "A":
            named["Ao"] = "me" if self.name == "I" else self.name
            return named | {"s": self.subject, "o": self.object, "p": self.possessive}
        return named | {"Bs": self.subject, "Bo": self.object}


def person(rng: Random) -> Person:
    """Anybody: most have a name, some are the one who asks, some are several."""
    (kind,) = rng.choices(("name", "I", "role", "group"), (74, 12, 8, 6))
    if kind == "I":
        return Person("I", "I", "me", "my", several=True)
    if kind == "group":
        return Person(rng.choice(rules()["group"]), "they", "them", "their", several=True)
    return named(rng) if kind == "name" else _gendered(rng.choice(rules()["role"]), rng)


def named(rng: Random, other_than: str = "") -> Person:
    """Somebody with a name."""
    gender = rng.choice(("she", "he"))
    name = rng.choice([one for one in rules()[gender] if one != other_than])
    return _of_gender(name, gender)


def _gendered(name: str, rng: Random) -> Person:
    fixed = {"sister": "she", "aunt": "she", "girl": "she", "brother": "he", "uncle": "he"}
    gender = next((fixed[word] for word in name.split() if word in fixed), None)
    return _of_gender(name, "he" if "boy" in name else gender or rng.choice(("she", "he")))


def _of_gender(name: str, gender: str) -> Person:
    pronouns = {"she": ("she", "her", "her"), "he": ("he", "him", "his")}[gender]
    return Person(name, *pronouns)


@dataclass(slots=True)
class Voice:
    """Fills in rules for one problem. ``lemmas`` are verbs that stand for others."""

    rng: Random
    who: Person
    slots: dict[str, str]
    past: bool
    lemmas: Mapping[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def one(self, rule: str) -> str:
        """An alternative as it stands, none of them twice as long as there are others."""
        fresh = [text for text in rules()[rule] if text not in self.used]
        text = self.rng.choice(fresh or rules()[rule])
        self.used.add(text)
        return text

    def say(self, rule: str, slots: Mapping[str, str], *, past: bool | None = None) -> str:
        """An alternative of the rule, filled in; sentences begin with a capital."""
        return self.filled(self.one(rule), slots, past=past)

    def filled(self, template: str, slots: Mapping[str, str], *, past: bool | None = None) -> str:
        drawn = {name: self.rng.choice(rules()[name]) for name in DRAWN}
        known = {**drawn, **self.slots, **slots}
        tense = self.past if past is None else past

        def place(match: re.Match[str]) -> str:
            name = match[1]
            if name in known:
                return known[name]
            parts = _VERB.fullmatch(name)
            if parts is None:
                raise KeyError(name)
            lemma, ending = self.lemmas.get(parts[1], parts[1]), parts[2] or ""
            if ending == "0":
                return lemma
            third = ending == "_" or (ending == "" and not self.who.several)
            return conjugated(lemma, third=third, past=tense)

        return capitals(_PLACE.sub(place, template))


def capitals(text: str) -> str:
    """The first letter of every sentence in capitals.

    >>> capitals("he has 5. how many are left?")
    'He has 5. How many are left?'
    """
    return re.sub(r"(^|[.?!] )([a-z])", lambda found: found[1] + found[2].upper(), text)


def verbs(templates: Iterator[str], slots: frozenset[str]) -> set[str]:
    """The lemmas that templates use as verbs, for whoever checks the tables."""
    found = {name for text in templates for name in _PLACE.findall(text)} - slots
    return {parts[1] for name in found if (parts := _VERB.fullmatch(name))}
