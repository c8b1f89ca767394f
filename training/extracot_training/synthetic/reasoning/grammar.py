"""The phrase grammar: rules with many alternatives each, expanded by a seeded choice.

Rules stand in ``wording/*.txt``: ``[name]`` and then one alternative a line. ``<name>`` in an
alternative is replaced by another rule or by a slot's text, ``<name?>`` only half of the time. A
line may begin with the registers it is for (``c|`` chatty, ``t|`` textbook, ``n|`` clipped notes,
``ct|`` two of them). `` / `` parts sentences. This module does not know what the rules say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from random import Random
from typing import Literal

from extracot_training.synthetic.reasoning.markup import tidied

Register = Literal["chatty", "textbook", "notes"]
_LETTER = {"chatty": "c", "textbook": "t", "notes": "n"}

_TAG = re.compile(r"([ctn]{1,3})\|")
_PLACE = re.compile(r"<([a-z_]+)(\?)?>")

Rules = Mapping[str, tuple[tuple[str, str], ...]]


@cache
def rules() -> Rules:
    """All rules: alternatives as (letters of registers, text)."""
    found: dict[str, list[tuple[str, str]]] = {}
    folder = files("extracot_training.synthetic.reasoning") / "wording"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".txt"):
            continue
        into: list[tuple[str, str]] = []
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("["):
                into = found.setdefault(line.strip("[]"), [])
            elif line.strip() and not line.startswith("#"):
                tag = _TAG.match(line)
                into.append((tag[1], line[tag.end() :]) if tag else ("ctn", line))
    return {name: tuple(alternatives) for name, alternatives in found.items()}


class Voice:
    """Says things in one register. Alternatives said before in this trace come up rarely."""

    def __init__(self, rng: Random, register: Register) -> None:
        self.rng = rng
        self.register = register
        self._letter = _LETTER[register]
        self._said: dict[tuple[str, int], int] = {}

    def say(self, rule: str, **slots: str) -> str:
        """One sentence or clause as markup. Raises :class:`KeyError` for an unknown rule."""
        return tidied(self._expand(f"<{rule}>", slots))

    def sentences(self, rule: str, **slots: str) -> list[str]:
        """One or more sentences, without capitals."""
        return self.say(rule, **slots).split(" / ")

    def has(self, rule: str) -> bool:
        return rule in rules()

    def _expand(self, text: str, slots: Mapping[str, str]) -> str:
        def replaced(match: re.Match[str]) -> str:
            name, optional = match[1], match[2]
            if optional and self.rng.random() < 0.5:
                return ""
            if name in slots:
                return slots[name]
            return self._expand(self._choose(name), slots)

        return _PLACE.sub(replaced, text)

    def _choose(self, name: str) -> str:
        fitting = [
            (index, text)
            for index, (letters, text) in enumerate(rules()[name])
            if self._letter in letters
        ]
        weights = [0.25 ** self._said.get((name, index), 0) for index, _ in fitting]
        index, text = self.rng.choices(fitting, weights)[0]
        self._said[name, index] = self._said.get((name, index), 0) + 1
        return text
