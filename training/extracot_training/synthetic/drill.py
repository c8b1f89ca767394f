"""Lists of single calculations, worked out one after the other: for models that are too small to
learn arithmetic from stories by the way, since a list has four times as many equations in as many
tokens. Knows neither families nor stories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from extracot_training.synthetic.narrate import equation
from extracot_training.synthetic.story import Op

# Sums and differences have twenty times as many pairs of numbers to be known as products have.
WEIGHTS = {Op.ADD: 7, Op.SUB: 7, Op.MUL: 4, Op.DIV: 2}
LEAST = 20


@dataclass(frozen=True, slots=True)
class DrillProblem:
    """``answer`` is the last result; ``final`` is the text after the reasoning."""

    index: int
    question: str
    answer: int
    trace: str
    final: str


@dataclass(frozen=True, slots=True)
class Drill:
    """Makes lists of ``count`` calculations with no number above ``max_number`` (at least
    :data:`LEAST`) and none below 1. The same seed and index give the same list."""

    seed: int
    max_number: int = 100
    count: int = 24

    def make(self, size: int) -> Iterator[DrillProblem]:
        """Problems 0..size-1."""
        return (self.problem(index) for index in range(size))

    def problem(self, index: int) -> DrillProblem:
        """Problem ``index``."""
        rng = Random(f"{self.seed}:{index}:drill")
        solved = [self._solved(rng) for _ in range(self.count)]
        asked = ", ".join(one.partition(" = ")[0] for one, _ in solved)
        answer = solved[-1][1]
        return DrillProblem(
            index=index,
            question=f"Now step by step: {asked}. The answer is the final number.",
            answer=answer,
            trace=" ".join(f"{one}." for one, _ in solved),
            final=f"The answer is {answer}. \\boxed{{{answer}}}",
        )

    def _solved(self, rng: Random) -> tuple[str, int]:
        """``105 ÷ 3 = 35``, and 35."""
        (op,) = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))
        if op in (Op.ADD, Op.SUB):
            whole = rng.randint(2, self.max_number)
            part = rng.randint(1, whole - 1)
            rest = whole - part
        else:
            part = rng.randint(2, self.max_number // 2)
            rest = rng.randint(2, self.max_number // part)
            if rng.random() < 0.5:
                part, rest = rest, part
            whole = part * rest
        if op in (Op.ADD, Op.MUL):
            return equation(op, (part, rest), whole), whole
        return equation(op, (whole, part), rest), rest
