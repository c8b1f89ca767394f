"""Ordinary requests, so that a model that learns to calculate does not forget to talk.

Greetings, facts, lists, rewriting, explaining, translating, advice and short texts. They have no
right answer: their replies come from the base model itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import count
from random import Random

from extracot_training.errors import TrainingError
from extracot_training.synthetic.wording import read_rules

KINDS = ("greeting", "fact", "list", "rewrite", "explain", "translate", "advice", "write")
_PLACE = re.compile(r"\{(\w+)\}")
# So many draws in a row that were asked already mean that there is hardly anything new.
MISSES = 2000


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, and of which kind it is."""

    kind: str
    text: str


class NothingNewError(TrainingError):
    """There are not so many different requests."""


@cache
def _rules() -> Mapping[str, tuple[str, ...]]:
    return read_rules([files("extracot_training.synthetic.everyday") / "wording.txt"])


def requests(seed: int, size: int) -> Iterator[Request]:
    """``size`` different requests. Raises :class:`NothingNewError`."""
    seen: set[str] = set()
    misses = 0
    for index in count():
        if len(seen) == size:
            return
        made = _request(Random(f"{seed}:{index}:everyday"))
        if made.text not in seen:
            seen.add(made.text)
            misses = 0
            yield made
        elif (misses := misses + 1) == MISSES:
            raise NothingNewError(f"there are only about {len(seen)} different requests")


def _request(rng: Random) -> Request:
    kind = rng.choice(KINDS)

    def drawn(match: re.Match[str]) -> str:
        return rng.choice(_rules()[match[1]])

    return Request(kind, _PLACE.sub(drawn, rng.choice(_rules()[kind])))
