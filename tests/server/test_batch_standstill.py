"""Batches that together fill a limit of bytes: one ends with what it has, the others go on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from openai.types import Batch

from extracot_server.batches.records import StoredBatch, new_batch_id
from extracot_server.batches.standstill import to_give_up
from extracot_server.batches.store import BatchStore
from extracot_server.config.batch_settings import BatchSettings
from tests.server.batch_client import CHAT, ended, jsonl, line, rows, sdk, submit
from tests.server.live import Live, serve


def quick(live: Live) -> None:
    """Waits are short in a test."""
    live.app.state.batch_runner.pauses.look = 0.02


def take(client: openai.OpenAI, batch: Batch) -> list[str]:
    """What became of a batch's lines; its files are deleted, as by a client that has read them."""
    found = [row["custom_id"] for row in rows(client, batch.output_file_id)]
    for file_id in (batch.output_file_id, batch.error_file_id, batch.input_file_id):
        if file_id is not None:
            client.files.delete(file_id)
    return found


def gave_up(batch: Batch, setting: str) -> bool:
    """Whether it ended for want of room, and says of which limit."""
    assert batch.errors and batch.errors.data
    (error,) = batch.errors.data
    return (
        batch.status == "failed"
        and error.code == "storage_limit_exceeded"
        and "cannot go on" in str(error.message)
        and setting in str(error.message)
    )


def test_of_batches_that_wait_for_each_other_the_youngest_ends(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"batch_key_bytes": 130_000, "batch_concurrency": 2}
    with serve(batch_folder=tmp_path, **limits) as live, sdk(live) as client:
        quick(live)
        first, second = (submit(client, jsonl(*(line(n) for n in range(40)))) for _ in range(2))
        partial = ended(client, second.id)
        assert gave_up(partial, "batch_key_bytes")
        counts = partial.request_counts
        assert counts is not None and counts.total == 40
        done = take(client, partial)
        assert len(done) == counts.completed < 40 and len({*done}) == len(done)
        whole = ended(client, first.id)
        assert whole.status == "completed" and whole.errors is None
        assert sorted(take(client, whole)) == sorted(f"r{n}" for n in range(40))
        assert len(live.engine.requests) == 40 + len(done), "a line ran twice, or for nothing"


def test_a_batch_whose_results_alone_are_too_large_ends_with_what_fits(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"batch_key_bytes": 20_000, "batch_concurrency": 2}
    with serve(batch_folder=tmp_path, **limits) as live, sdk(live) as client:
        quick(live)
        batch = ended(client, submit(client, jsonl(*(line(n) for n in range(60)))).id)
        assert gave_up(batch, "batch_key_bytes")
        assert 0 < len(take(client, batch)) == len(live.engine.requests) < 60
        small = submit(client, jsonl(line(1)))
        assert ended(client, small.id).status == "completed"


@dataclass
class Run:
    """A batch that waits."""

    owner: str
    batch: StoredBatch


def waiting(store: BatchStore, owner: str, created_at: int, written: int) -> Run:
    """A batch with an input and so many bytes of results."""
    folder = store.of(owner)
    upload = folder.begin_upload()
    upload.write(b"x" * 500)
    batch = StoredBatch(
        id=new_batch_id(),
        created_at=created_at,
        endpoint=CHAT,
        input_file_id=folder.finish(upload, "in", None).id,
        completion_window="24h",
        deadline=created_at + 3600,
    )
    folder.add_batch(batch)
    run = Run(owner, batch)
    writes(store, run, written)
    return run


def writes(store: BatchStore, run: Run, size: int) -> None:
    """So many bytes are all that its results have."""
    part = store.of(run.owner).files / f"{run.batch.output_file_id}.part"
    part.write_bytes(b"x" * size)
    store.usage.forget(store.of(run.owner).path)


def test_at_the_limit_of_all_keys_a_batch_of_the_key_that_keeps_most_ends(tmp_path: Path) -> None:
    store = BatchStore(tmp_path, BatchSettings(batch_folder_bytes=30_000))
    kept = store.of("c").finish(store.of("c").begin_upload(), "a", None)
    old, new = waiting(store, "a", 1, 10_000), waiting(store, "a", 2, 5_000)
    small = waiting(store, "b", 3, 8_000)
    runs = [old, new, small]
    assert to_give_up(store, runs, True) is None, "there is room"
    store.of("c").data_path(kept.id).write_bytes(b"x" * 50_000)
    store.usage.measure_anew()
    assert to_give_up(store, runs, True) is None, "that file may be deleted"
    store.of("c").delete_file(kept.id)
    writes(store, small, 14_000)
    assert to_give_up(store, [small], False) is None, "another key's batch may end by itself"
    found = to_give_up(store, runs, True)
    assert found is not None and found[0] is new and found[1].setting == "batch_folder_bytes"


def test_nothing_ends_while_an_upload_or_old_records_may_make_room(tmp_path: Path) -> None:
    store = BatchStore(tmp_path, BatchSettings(batch_key_bytes=20_000))
    folder = store.of("a")
    ended = waiting(store, "a", 1, 0)
    (folder.files / f"{ended.batch.output_file_id}.part").unlink()
    ended.batch.metadata = {"a": "x" * 6_000}
    ended.batch.reached("failed", 2)
    ended.batch.save(folder.batches)
    folder.delete_file(ended.batch.input_file_id)
    upload = folder.begin_upload()
    upload.write(b"x" * 4_000)
    upload.stream.flush()
    run, other = waiting(store, "a", 1, 0), waiting(store, "b", 2, 0)
    writes(store, run, 10_000)
    assert to_give_up(store, [run], False) is None, "the upload may be given up"
    upload.discard()
    writes(store, run, 15_000)
    assert to_give_up(store, [run], False) is None
    assert [batch.id for batch in folder.list_batches()] == [run.batch.id], "it made room"
    writes(store, run, 25_000)
    found = to_give_up(store, [run, other], True)
    assert found is not None and found[0] is run and found[1].setting == "batch_key_bytes"
