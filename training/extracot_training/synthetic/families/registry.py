"""The register of problem families: a name, how many steps it can have, and its writer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from extracot_training.synthetic.story import Draw, Story

Writer = Callable[[Draw, Story], None]


@dataclass(frozen=True, slots=True)
class Family:
    """``steps``: the inclusive range it can write. ``min_cap``: the smallest cap it works under."""

    name: str
    steps: tuple[int, int]
    min_cap: int
    write: Writer


FAMILIES: dict[str, Family] = {}


def family(name: str, steps: tuple[int, int], *, min_cap: int = 20) -> Callable[[Writer], Writer]:
    """Register a writer: it must give the story exactly ``draw.steps`` steps."""

    def register(write: Writer) -> Writer:
        if name in FAMILIES:
            raise ValueError(f"family {name!r} is registered twice")
        FAMILIES[name] = Family(name, steps, min_cap, write)
        return write

    return register
