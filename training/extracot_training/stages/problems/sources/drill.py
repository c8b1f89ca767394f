"""Reader of our own lists of calculations."""

from __future__ import annotations

from collections.abc import Iterator

from extracot_training.config.problems import DrillSource
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.sources.generated import row_of
from extracot_training.stages.problems.sources.synthetic import SOURCE
from extracot_training.synthetic.drill import Drill

FAMILY = "drill"


def read(source: DrillSource) -> Iterator[Problem]:
    """Lists of calculations. ``meta.final`` is the answer text; they tell no stories."""
    for made in Drill(source.seed, source.max_number, source.count).make(source.size):
        yield row_of(
            SOURCE,
            source,
            made,
            family=FAMILY,
            steps=source.count,
            meta={"max_number": source.max_number},
        )
