"""Seeded questions for bare arithmetic: question ``i`` of a seed is the same in every process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from extracot_training.config.messages import near_miss
from extracot_training.errors import ConfigError
from extracot_training.synthetic.arithmetic.asking import ask
from extracot_training.synthetic.arithmetic.spelling import spelled
from extracot_training.synthetic.arithmetic.tasks import KINDS, Task

# Numbers up to this are now and then written in words.
SPELLED_TO = 120
OPENINGS = {
    "sum": ("I add the two numbers place by place", "This is a sum, so I begin with the ones",
            "Two numbers are to be added", "To put them together I add", "I need the sum"),
    "difference": ("I take one number from the other", "This is a difference, from the ones on",
                   "To find what is left I subtract", "I need how far apart they are"),
    "product": ("I multiply the two numbers", "This is a product, so I go by parts",
                "Equal groups mean multiplying", "I need the product"),
    "quotient": ("I divide the first number by the second", "This is a division",
                 "Equal parts mean dividing", "I need how often the one holds the other"),
    "chain": ("I go step by step", "Products come before sums, brackets before both",
              "One calculation after the other"),
    "percent": ("A percent is one of a hundred parts", "I need a part of the number"),
    "fraction": ("I divide into equal parts first", "The lower number says how many parts"),
    "price": ("I reckon in cents", "With cents there is no point to lose"),
    "remainder": ("I divide and see what is left over", "The remainder is what is left at the end"),
    "times": ("I divide and leave out what is left over", "Only whole ones count"),
    "halves": ("I divide, and what is left makes a decimal", "This one does not come out whole"),
    "below": ("The second number is larger", "I look at which number is larger"),
}  # fmt: skip
MORE = ("Let me work it out", "Slowly now", "First I look at the numbers", "I write it all down")
CHECKS = ("Let me check that", "A check", "To be sure I go back",
          "It should fit the other way round")  # fmt: skip
ENDS = ("So the answer is {}", "That makes {}", "The result is {}", "It comes to {}", "So it is {}")
FINALS = ("The answer is {}.", "It is {}.", "That is {}.", "The result is {}.", "{}.",
          "That makes {}.", "You get {}.")  # fmt: skip


@dataclass(frozen=True, slots=True)
class ArithmeticProblem:
    """``trace`` is the reasoning, ``final`` the text after it; ``equations`` is how many
    calculations the question needs."""

    index: int
    kind: str
    question: str
    answer: str
    equations: int
    trace: str
    final: str


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Draws questions of the named kinds (``None``: all of :data:`KINDS`). ``verbosity`` is the
    share of traces that say what is done, check it and conclude; the others calculate alone.

    Raises :class:`ConfigError` for an unknown kind and an empty choice."""

    seed: int
    kinds: tuple[str, ...] | None = None
    verbosity: float = 0.5

    def __post_init__(self) -> None:
        for name in self.kinds or ():
            if name not in KINDS:
                raise ConfigError(f"unknown kind {name!r}{near_miss(name, list(KINDS))}")
        if self.kinds is not None and not self.kinds:
            raise ConfigError("the list of kinds is empty", key="kinds")

    def make(self, size: int) -> Iterator[ArithmeticProblem]:
        """Questions 0..size-1."""
        return (self.problem(index) for index in range(size))

    def problem(self, index: int) -> ArithmeticProblem:
        """Question ``index``."""
        rng = Random(f"{self.seed}:{index}:arithmetic")
        names = sorted(set(KINDS if self.kinds is None else self.kinds))
        (name,) = rng.choices(names, [KINDS[one][1] for one in names])
        task = KINDS[name][0](rng)
        final = rng.choice(FINALS).format(f"\\boxed{{{task.answer}}}")
        told = _verbose(rng, task) if rng.random() < self.verbosity else list(task.working)
        return ArithmeticProblem(
            index=index,
            kind=name,
            question=ask(rng, task.kind, _spelled(rng, task.parts)),
            answer=task.answer,
            equations=sum(" = " in sentence for sentence in task.working),
            trace=" ".join(f"{sentence}." for sentence in told),
            final=final,
        )


def _spelled(rng: Random, parts: Mapping[str, str]) -> Mapping[str, str]:
    """The numbers, rarely in words where all of them are small and whole."""
    whole = all(part.isdecimal() and int(part) <= SPELLED_TO for part in parts.values())
    if not whole or rng.random() > 0.12:
        return parts
    return {name: spelled(int(part)) for name, part in parts.items()}


def _verbose(rng: Random, task: Task) -> list[str]:
    bank = OPENINGS[task.kind.partition(" ")[0]]
    told = [rng.choice(bank)]
    if rng.random() < 0.3:
        told.insert(0, rng.choice(MORE))
    told += task.working
    if task.check and rng.random() < 0.6:
        told += [rng.choice(CHECKS), *task.check]
    told.append(rng.choice(ENDS).format(task.answer))
    return told
