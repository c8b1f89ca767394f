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
from extracot_training.errors import RowError
from extracot_training.pipeline.data_files import ABSENT, Bad, refuse
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.sources import (
    arithmetic,
    drill,
    everyday,
    gsm_symbolic,
    hub,
    jsonl,
    reasoning,
    relations,
    synthetic,
)
from extracot_training.stages.problems.sources.rows import Row

# By ``kind``, which tells the type of the settings that a reader takes.
READERS: dict[str, Callable[[Any], Iterator[Problem]]] = {
    "gsm_symbolic": gsm_symbolic.read,
    "generator": synthetic.read,
    "reasoning": reasoning.read,
    "drill": drill.read,
    "arithmetic": arithmetic.read,
    "relations": relations.read,
    "everyday": everyday.read,
}
# Data of others: where its rows come from, and what makes a problem of each.
ROW_READERS: dict[str, tuple[Callable[[Any, Bad], Iterator[Row]], Callable[[Any], jsonl.Make]]] = {
    "gsm8k": (jsonl.rows, jsonl.gsm8k),
    "math": (jsonl.rows, jsonl.math),
    "amc": (jsonl.rows, jsonl.amc),
    "jsonl": (jsonl.rows, jsonl.by_fields),
    "huggingface": (hub.rows, hub.by_fields),
}

# How the error of a key goes on that no row has.
NOWHERE = " in all rows"


def read_source(source: AnySource, skipped: list[str] | None = None) -> Iterator[Problem]:
    """The problems of one source, at most ``source.limit``.

    Raises :class:`RowError` (``file:line`` and field), also for a key that the settings name and no
    row has, and :class:`StageError`. With ``bad_rows:
    skip`` the faults of what is no row or no problem go into ``skipped`` instead.
    """
    if source.kind in READERS:
        return islice(READERS[source.kind](source), source.limit)
    return _made(source, [] if skipped is None else skipped)


def _made(source: Any, skipped: list[str]) -> Iterator[Problem]:
    rows, maker = ROW_READERS[source.kind]
    make = maker(source)

    def skip(fault: RowError) -> None:
        skipped.append(str(fault))

    bad = refuse if source.bad_rows == "refuse" else skip
    unseen = _named(source)
    first: Row | None = None
    count = 0
    for row in rows(source, bad):
        unseen = [field for field in unseen if row.find(field) is ABSENT]
        try:
            made = make(row)
        except RowError as fault:
            bad(fault)
            continue
        first = first or row
        yield made
        count += 1
        if count == source.limit:
            break
    if first is not None and unseen:
        for row in rows(source, lambda fault: None) if count == source.limit else ():
            unseen = [field for field in unseen if row.find(field) is ABSENT]
            if not unseen:
                return
        raise first.missing(unseen[0], NOWHERE)


def _named(source: Any) -> list[str]:
    """Keys that the settings name and a row may lack. One that no row has is misspelt."""
    fields = getattr(source, "fields", None)
    return [field for field in (fields.solution, fields.family) if field] if fields else []
