"""Seeded reasoning traces with gold labels: problem ``i`` depends on seed and ``i`` alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from extracot_training.compression.step_labels import StepLabels
from extracot_training.config.messages import near_miss
from extracot_training.errors import ConfigError
from extracot_training.synthetic.reasoning.facts import Problem, Reject
from extracot_training.synthetic.reasoning.kinds import KINDS
from extracot_training.synthetic.reasoning.markup import render
from extracot_training.synthetic.reasoning.narrator import Narrator
from extracot_training.synthetic.reasoning.notation import Notation
from extracot_training.synthetic.reasoning.style import Telling

# A kind whose numbers don't work out is drawn again; none needs anywhere near so many draws.
DRAWS = 200


@dataclass(frozen=True, slots=True)
class ReasoningProblem:
    """``trace`` is the thinking, ``final`` the text behind it (with ``\\boxed{}``)."""

    index: int
    kind: str
    question: str
    answer: str
    trace: str
    final: str
    labels: StepLabels
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningGenerator:
    """``kinds``: names to draw from; all if ``None``."""

    seed: int = 0
    kinds: tuple[str, ...] | None = None
    telling: Telling = field(default_factory=Telling)

    def chosen(self) -> list[str]:
        """Names of the kinds, in a fixed order."""
        known = sorted(KINDS)
        if self.kinds is not None and not self.kinds:
            raise ConfigError("kinds: the list is empty")
        for name in self.kinds or ():
            if name not in KINDS:
                raise ConfigError(f"kinds: there is no kind {name!r}{near_miss(name, known)}")
        return [name for name in known if self.kinds is None or name in self.kinds]

    def make(self, size: int) -> Iterator[ReasoningProblem]:
        """The first ``size`` problems."""
        return (self.problem(index) for index in range(size))

    def problem(self, index: int) -> ReasoningProblem:
        """Problem ``index``."""
        rng = Random(f"reasoning:{self.seed}:{index}")
        names = self.chosen()
        name = rng.choices(names, [KINDS[name].weight for name in names])[0]
        drawn = draw(name, rng)
        trace, labels = Narrator(drawn, rng, self.telling).tell()
        notation = Notation("dollars", bare=rng.random() < 0.5)
        if rng.random() < 0.3:
            notation = Notation("none", ascii_only=rng.random() < 0.5)
        return ReasoningProblem(
            index=index,
            kind=drawn.kind,
            question=render(drawn.question, notation).text,
            answer=drawn.answer,
            trace=trace,
            final=f"The answer is \\boxed{{{drawn.answer}}}.",
            labels=labels,
            parts=drawn.parts,
        )


def draw(name: str, rng: Random) -> Problem:
    """A problem of this kind whose numbers work out."""
    for _ in range(DRAWS):
        try:
            drawn = KINDS[name].draw(rng)
        except (Reject, ZeroDivisionError):
            continue
        if drawn.world()[1]:
            return drawn
    raise AssertionError(f"kind {name!r} does not work out in {DRAWS} draws")
