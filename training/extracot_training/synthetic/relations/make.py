"""Seeded problems of relations: problem ``i`` of a seed is the same in every process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from extracot_training.config.messages import near_miss
from extracot_training.errors import ConfigError, TrainingError
from extracot_training.synthetic.relations import stock, telling, trade
from extracot_training.synthetic.relations.problem import Problem, begun
from extracot_training.synthetic.story import Reject

ATTEMPTS = 2000
Writer = Callable[[Problem, int], None]
# What a problem is about, how many calculations it can need, and how often it is drawn.
SCENES: dict[str, tuple[Writer, tuple[int, int], float]] = {
    "things": (stock.things, (1, 4), 8),
    "money": (stock.money, (1, 4), 1.5),
    "crowd": (stock.crowd, (1, 4), 1.5),
    "measure": (stock.measure, (1, 4), 1.5),
    "buying": (trade.buying, (1, 4), 3),
    "priced": (trade.priced, (1, 2), 1.5),
    "percent": (trade.percent, (1, 2), 1),
    "rate": (trade.rate, (1, 3), 2.5),
    "clock": (trade.clock, (1, 2), 0.5),
    "length": (trade.length, (1, 1), 0.5),
}


class RelationsError(TrainingError):
    """No problem with so many steps came out."""


@dataclass(frozen=True, slots=True)
class RelationsProblem:
    """``trace`` is the reasoning, ``terse`` its calculations alone, ``final`` the text after."""

    index: int
    scene: str
    question: str
    answer: str
    steps: int
    trace: str
    terse: str
    final: str


@dataclass(frozen=True, slots=True)
class Relations:
    """Draws problems of one to four steps, ``weights`` being how often each number is wanted.
    ``verbosity`` is the share of talkative traces, of which ``thorough`` is the share that say what
    the text says and check everything; of the others each second has no words. ``two_digits``: sums
    and differences of two digits are written out too.

    Raises :class:`ConfigError` for an unknown scene and an empty choice."""

    seed: int
    scenes: tuple[str, ...] | None = None
    weights: tuple[float, ...] = (0.3, 0.35, 0.25, 0.1)
    verbosity: float = 0.5
    thorough: float = 0.5
    two_digits: bool = False

    def __post_init__(self) -> None:
        for name in self.scenes or ():
            if name not in SCENES:
                raise ConfigError(f"unknown scene {name!r}{near_miss(name, list(SCENES))}")
        if self.scenes is not None and not self.scenes:
            raise ConfigError("the list of scenes is empty", key="scenes")

    def make(self, size: int) -> Iterator[RelationsProblem]:
        """Problems 0..size-1."""
        return (self.problem(index) for index in range(size))

    def problem(self, index: int) -> RelationsProblem:
        """Problem ``index``. Raises :class:`RelationsError` when no draw fits."""
        rng = Random(f"{self.seed}:{index}:relations")
        names = sorted(set(SCENES if self.scenes is None else self.scenes))
        (scene,) = rng.choices(names, [SCENES[name][2] for name in names])
        write, (least, most), _ = SCENES[scene]
        (wanted,) = rng.choices(range(1, 5), self.weights)
        steps = max(least, min(most, wanted))
        for _ in range(ATTEMPTS):
            told = begun(rng)
            told.two_digits = self.two_digits
            try:
                write(told, steps)
            except Reject:
                continue
            return _made(index, scene, told, self._trace(told, rng), rng)
        raise RelationsError(f"scene {scene!r}: no problem with {steps} steps came out")

    def _trace(self, told: Problem, rng: Random) -> str:
        if rng.random() < self.verbosity:
            return telling.verbose(told, rng, thorough=rng.random() < self.thorough)
        return rng.choice((telling.brief, telling.bare))(told)


def _made(index: int, scene: str, told: Problem, trace: str, rng: Random) -> RelationsProblem:
    return RelationsProblem(
        index=index,
        scene=scene,
        question=telling.text(told),
        answer=telling.answer(told),
        steps=len(told.steps),
        trace=trace,
        terse=telling.bare(told),
        final=telling.final(told, rng),
    )
