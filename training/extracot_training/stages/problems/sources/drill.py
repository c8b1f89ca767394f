"""Reader of our own lists of calculations."""

from __future__ import annotations

from collections.abc import Iterator

from extracot_training.config.problems import DrillSource
from extracot_training.math_text.normalise import problem_id
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.sources.synthetic import LICENSE, SOURCE
from extracot_training.synthetic.drill import Drill

FAMILY = "drill"


def read(source: DrillSource) -> Iterator[Problem]:
    """Lists of calculations. ``meta.final`` is the answer text; they tell no stories."""
    for made in Drill(source.seed, source.max_number, source.count).make(source.size):
        yield Problem(
            id=problem_id(SOURCE, made.question),
            question=made.question,
            answer=str(made.answer),
            solution=made.trace,
            source=SOURCE,
            license=LICENSE,
            split=source.split or "train",
            family=FAMILY,
            steps=source.count,
            synthetic=True,
            meta={
                "seed": source.seed,
                "index": made.index,
                "final": made.final,
                "max_number": source.max_number,
            },
        )
