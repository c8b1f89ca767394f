"""Readers of problem sets: each turns one configured source into :class:`Problem` rows.

A reader cleans and places what it reads (``split`` is provisional: ``train`` unless the source or
a held-out family says otherwise); de-duplication, contamination and the seeded split come later
and are not its business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from extracot_training.config.problems import AnySource
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.sources import (
    drill,
    gsm_symbolic,
    hub,
    jsonl,
    reasoning,
    synthetic,
)

# By ``kind``, which tells the type of the settings that a reader takes.
READERS: dict[str, Callable[[Any], Iterator[Problem]]] = {
    "gsm8k": jsonl.read_gsm8k,
    "math": jsonl.read_math,
    "amc": jsonl.read_amc,
    "jsonl": jsonl.read_mapped,
    "huggingface": hub.read,
    "gsm_symbolic": gsm_symbolic.read,
    "generator": synthetic.read,
    "reasoning": reasoning.read,
    "drill": drill.read,
}


def read_source(source: AnySource) -> Iterator[Problem]:
    """The problems of one source, at most ``source.limit``.

    Raises :class:`RowError` (``file:line`` and field) and :class:`StageError`.
    """
    return islice(READERS[source.kind](source), source.limit)
