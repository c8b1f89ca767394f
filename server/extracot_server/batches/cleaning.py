"""Deletes what has expired, and what was left lying: by uploads that were given up, and by kills.

A file is made and deleted in steps. What a kill leaves between two of them belongs to no record, so
that no client could delete it, and counts all the same. Blocking.
"""

from __future__ import annotations

from pathlib import Path

from extracot_server.batches.entries import clear_traces, delete_old, names_in, records_in
from extracot_server.batches.records import StoredBatch, StoredFile
from extracot_server.batches.store import CANCEL, UPLOADING, BatchStore, KeyFolder

_ABANDONED_SECONDS = 24 * 3600.0
_HALF_WRITTEN = ".tmp"
_PARTS = (".jsonl", CANCEL)


def clean(store: BatchStore) -> None:
    """Clean the folders of all keys; what belongs to nothing goes after a day."""
    for owner in store.owners():
        folder = store.of(owner)
        _delete_expired(store, folder)
        _delete_abandoned(folder)
        for records in (folder.files, folder.batches):
            clear_traces(records)
        store.usage.forget(folder.path)


def _delete_expired(store: BatchStore, folder: KeyFolder) -> None:
    in_use = {batch.input_file_id for batch in folder.unfinished()}
    for path in records_in(folder.files):
        file = StoredFile.load(path)
        if path.stem not in in_use and file is not None and store.expired(file):
            store.remove(path, file)
    for path in records_in(folder.batches):
        batch = StoredBatch.load(path)
        if batch is not None and batch.ended and store.expired(batch):
            store.remove(path, batch)


def _delete_abandoned(folder: KeyFolder) -> None:
    found = [where / name for where in (folder.files, folder.batches) for name in names_in(where)]
    # Read after the names, and before the records: results become files before their batch ends.
    batches = folder.unfinished()
    results = {one for batch in batches for one in (batch.output_file_id, batch.error_file_id)}
    for path in found:
        alone = path.suffix in _PARTS and path.stem not in results
        if path.suffix in (UPLOADING, _HALF_WRITTEN) or (alone and not _record(path).exists()):
            delete_old(path, _ABANDONED_SECONDS)
    for name in names_in(folder.active):
        if not (folder.batches / f"{name}.json").exists():
            delete_old(folder.active / name, _ABANDONED_SECONDS)


def _record(path: Path) -> Path:
    return path.with_suffix(".json")
