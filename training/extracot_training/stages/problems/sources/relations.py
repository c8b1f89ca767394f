"""Reader of our own word problems that are told in many ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from extracot_training.config.problems import RelationsSource
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.sources.generated import row_of
from extracot_training.synthetic.relations import Relations

SOURCE = "relations"


def read(source: RelationsSource) -> Iterator[Problem]:
    """Problems, their family being the scene. ``meta.final`` is the answer text, ``meta.terse`` the
    calculations alone.

    Raises :class:`ConfigError` for an unknown scene.
    """
    shared = {field.name for field in fields(Relations)}
    relations = Relations(**source.model_dump(include=shared))
    for made in relations.make(source.size):
        yield row_of(
            SOURCE,
            source,
            made,
            family=made.scene,
            steps=made.steps,
            meta={"terse": made.terse},
        )
