"""Reader of our own ordinary requests, which have no right answer."""

from __future__ import annotations

from collections.abc import Iterator

from extracot_training.config.problems import EverydaySource
from extracot_training.math_text.normalise import problem_id
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.sources.generated import LICENSE
from extracot_training.synthetic.everyday import requests

SOURCE = "everyday"
# Rows want a gold; no reply is judged by this one: stage teach neither rejects it (``keep: all``)
# nor calls it wrong (``meta.graded``), which later stages would leave out.
NO_GOLD = "none"


def read(source: EverydaySource) -> Iterator[Problem]:
    """Requests, their family being the kind. Raises :class:`NothingNewError` for too many."""
    for made in requests(source.seed, source.size):
        yield Problem(
            id=problem_id(SOURCE, made.text),
            question=made.text,
            answer=NO_GOLD,
            source=SOURCE,
            license=LICENSE,
            split=source.split or "train",
            family=made.kind,
            synthetic=True,
            meta={"graded": False},
        )
