"""Readers of problem sets: each turns one configured source into :class:`Problem` rows.

A reader cleans and places what it reads (``split`` is provisional: ``train`` unless the source or
a held-out family says otherwise); de-duplication, contamination and the seeded split come later
and are not its business.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from extracot_training.config.problems import (
    AmcSource,
    AnySource,
    GeneratorSource,
    Gsm8kSource,
    GsmSymbolicSource,
    HubSource,
    JsonlSource,
    MathSource,
)
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.sources import gsm_symbolic, hub, jsonl, synthetic


def read_source(source: AnySource) -> Iterator[Problem]:
    """The problems of one source, at most ``source.limit``.

    Raises :class:`RowError` (``file:line`` and field) and :class:`StageError`.
    """
    return islice(_read(source), source.limit)


def _read(source: AnySource) -> Iterator[Problem]:
    match source:
        case Gsm8kSource():
            return jsonl.read_gsm8k(source)
        case MathSource():
            return jsonl.read_math(source)
        case AmcSource():
            return jsonl.read_amc(source)
        case JsonlSource():
            return jsonl.read_mapped(source)
        case HubSource():
            return hub.read(source)
        case GsmSymbolicSource():
            return gsm_symbolic.read(source)
        case GeneratorSource():
            return synthetic.read(source)
