"""Reader of our own questions for bare arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

from extracot_training.config.problems import ArithmeticSource
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.sources.generated import row_of
from extracot_training.synthetic.arithmetic import Arithmetic

SOURCE = "arithmetic"


def read(source: ArithmeticSource) -> Iterator[Problem]:
    """Questions, their family being the kind. ``meta.final`` is the answer text.

    Raises :class:`ConfigError` for an unknown kind.
    """
    for made in Arithmetic(source.seed, source.kinds, source.verbosity).make(source.size):
        yield row_of(SOURCE, source, made, family=made.kind, steps=made.equations)
