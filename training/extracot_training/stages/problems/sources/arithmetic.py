"""Reader of our own questions for bare arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

from extracot_training.config.problems import ArithmeticSource
from extracot_training.math_text.normalise import problem_id
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.sources.synthetic import LICENSE
from extracot_training.synthetic.arithmetic import Arithmetic

SOURCE = "arithmetic"


def read(source: ArithmeticSource) -> Iterator[Problem]:
    """Questions, their family being the kind. ``meta.final`` is the answer text.

    Raises :class:`ConfigError` for an unknown kind.
    """
    for made in Arithmetic(source.seed, source.kinds, source.verbosity).make(source.size):
        yield Problem(
            id=problem_id(SOURCE, made.question),
            question=made.question,
            answer=made.answer,
            solution=made.trace,
            source=SOURCE,
            license=LICENSE,
            split=source.split or "train",
            family=made.kind,
            steps=made.equations,
            synthetic=True,
            meta={"seed": source.seed, "index": made.index, "final": made.final},
        )
