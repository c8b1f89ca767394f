"""A row of what our own generators make, the same for each of them."""

from __future__ import annotations

from typing import Any, Protocol

from extracot_training.math_text.normalise import problem_id
from extracot_training.pipeline.records import Problem, Split

LICENSE = "Apache-2.0"


class Source(Protocol):
    """A setting of stage ``problems`` that names a generator."""

    @property
    def seed(self) -> int: ...

    @property
    def split(self) -> Split | None: ...


class Made(Protocol):
    """A problem, by whichever generator."""

    @property
    def index(self) -> int: ...

    @property
    def question(self) -> str: ...

    @property
    def answer(self) -> int | str: ...

    @property
    def final(self) -> str: ...

    @property
    def trace(self) -> str: ...


def row_of(
    name: str,
    source: Source,
    made: Made,
    *,
    family: str,
    steps: int,
    solution: str | None = None,
    held_out: bool = False,
    meta: dict[str, Any] | None = None,
) -> Problem:
    """``made`` by the generator ``name``, as a row. ``solution`` stands for its trace, and ``meta``
    comes after seed, index and the answer text (``final``), of which it may have its own."""
    return Problem(
        id=problem_id(name, made.question),
        question=made.question,
        answer=str(made.answer),
        solution=made.trace if solution is None else solution,
        source=name,
        license=LICENSE,
        split="heldout_families" if held_out else source.split or "train",
        family=family,
        steps=steps,
        synthetic=True,
        meta={"seed": source.seed, "index": made.index, "final": made.final, **(meta or {})},
    )
