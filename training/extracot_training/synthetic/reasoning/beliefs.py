"""What is believed at a point of a trace: the right facts, and those of a slip not yet noticed.

Also chooses slips, and the order in which facts are told. This module does not know wordings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from extracot_training.synthetic.reasoning.facts import (
    Fact,
    Problem,
    Slip,
    miscalculations,
    needed_facts,
)
from extracot_training.synthetic.reasoning.script import Sentence

# Facts told after a slip until it is noticed, where it isn't at once.
LATE = (1, 1, 2, 2, 3, 4, 6)


@dataclass(slots=True)
class Trouble:
    """A slip that has not been noticed. ``facts``: its wrong facts; ``wrong``: the keys of those
    and of facts that can't be worked out; ``told``: keys of wrong facts told since, in order."""

    key: str
    slip: Slip
    facts: dict[str, Fact]
    wrong: frozenset[str]
    due: int
    told: list[str] = field(default_factory=list)
    sentences: list[Sentence] = field(default_factory=list)


class Beliefs:
    """The facts of one problem, right and as they are believed. One slip is open at a time."""

    def __init__(self, problem: Problem, rng: Random) -> None:
        facts, complete = problem.world()
        if not complete:
            raise AssertionError(f"{problem.kind}: the right solution breaks off at {list(facts)}")
        self._problem, self._rng = problem, rng
        self.right = facts
        self.needed = needed_facts(facts, problem.last)
        self.trouble: Trouble | None = None

    def fact(self, key: str) -> Fact:
        """The fact as it was last told."""
        trouble = self.trouble
        return trouble.facts[key] if trouble and key in trouble.told else self.right[key]

    def tellable(self, key: str) -> bool:
        """Whether the world of the open slip has a wrong version of this fact."""
        trouble = self.trouble
        if trouble is None or key not in trouble.wrong or key not in trouble.facts:
            return False
        return not self._same(trouble.facts[key])

    def order(self) -> list[str]:
        """The needed facts, each after those it depends on; independent ones in any order."""
        left = list(self.needed)
        order: list[str] = []
        loose = self._rng.choice((0.0, 0.0, 0.3, 0.6))
        while left:
            ready = [key for key in left if set(self.right[key].deps) <= set(order)]
            chosen = self._rng.choice(ready) if self._rng.random() < loose else ready[0]
            order.append(chosen)
            left.remove(chosen)
        return order

    def slip(self, key: str, late: float) -> Trouble | None:
        """A slip at this fact that makes it wrong; ``late``: the share that isn't noticed at once.
        ``None`` where there is none."""
        fact, rng = self.right[key], self._rng
        own, hasty = list(fact.slips), miscalculations(fact, rng)
        rng.shuffle(own)
        rng.shuffle(hasty)
        for slip in [*own, *hasty] if rng.random() < 0.7 else [*hasty, *own]:
            facts, _ = self._problem.world({key: slip})
            world = {name: found for name, found in facts.items() if not self._unchanged(found)}
            if key not in world or self._same(world[key]):
                continue
            if silent := [name for name, found in world.items() if not found.wrong]:
                raise AssertionError(
                    f"{self._problem.kind}: {silent[0]} does not say that it depends on {key}"
                )
            due = rng.choice(LATE) if rng.random() < late else 0
            wrong = frozenset(world) | frozenset(self.right) - frozenset(facts)
            return Trouble(key, slip, world, wrong, due)
        return None

    def _same(self, fact: Fact) -> bool:
        return fact.value == self.right[fact.key].value and not isinstance(fact.value, str)

    def _unchanged(self, fact: Fact) -> bool:
        """Whether it says what the right one does; an aside of a wrong world alone is not told."""
        right = self.right.get(fact.key)
        if right is None:
            return True
        return (fact.value, fact.expr, fact.says) == (right.value, right.expr, right.says)
