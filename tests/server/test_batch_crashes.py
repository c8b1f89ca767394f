"""What kills, full disks and other settings after a restart leave of files and batches."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from extracot_server.batches.cleaning import clean
from extracot_server.batches.lines import Overview, look_over
from extracot_server.batches.records import StorageError, StoredBatch, StoredFile, new_batch_id
from extracot_server.batches.store import BatchStore, KeyFolder
from extracot_server.config.batch_settings import BatchSettings
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.batch_client import CHAT, ended, jsonl, line, rows, sdk, submit
from tests.server.live import serve, wait_for

SLOW = ScriptedBehaviour(token_interval_seconds=0.005)


def stored(folder: KeyFolder) -> StoredFile:
    upload = folder.begin_upload()
    upload.write(b"{}\n")
    return folder.finish(upload, "a", None)


def test_an_upload_without_room_for_its_record_takes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could delete what nobody is told of."""
    folder = BatchStore(tmp_path, BatchSettings()).of("a")
    kept = stored(folder)
    before = sorted(folder.files.iterdir())

    def save(self: StoredFile, where: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(StoredFile, "save", save)
    upload = folder.begin_upload()
    upload.write(b"x" * 10_000)
    with pytest.raises(StorageError, match="No space left"):
        folder.finish(upload, "b", None)
    upload.discard()
    assert sorted(folder.files.iterdir()) == before
    assert folder.file(kept.id) == kept and folder.room().left > 2 * 2**30 - 1_000


def test_what_a_kill_leaves_between_two_steps_is_deleted_after_a_day(tmp_path: Path) -> None:
    store = BatchStore(tmp_path, BatchSettings())
    folder = store.of("a")
    kept, gone, new = (stored(folder) for _ in range(3))
    batch = StoredBatch(
        id=new_batch_id(),
        created_at=int(time.time()),
        endpoint=CHAT,
        input_file_id=kept.id,
        completion_window="24h",
        deadline=int(time.time()) + 3600,
    )
    folder.add_batch(batch)
    results = folder.data_path(batch.output_file_id)  # they become a file at this moment
    part = folder.files / f"{batch.error_file_id}.part"
    for path in (results, part):
        path.write_bytes(b"{}\n")
    half_written = [where / f".{kept.id}.json.x.tmp" for where in (folder.files, folder.batches)]
    asked = folder.batches / f"{new_batch_id()}.cancel"  # of a batch that was deleted
    for path in (*half_written, asked):
        path.write_bytes(b"x" * 100)
    for record in (gone, new):  # killed before it, or after its deletion
        (folder.files / f"{record.id}.json").unlink()
    for path in (*folder.files.iterdir(), *folder.batches.iterdir()):
        if path != folder.data_path(new.id):
            os.utime(path, (1.0, 1.0))
    clean(store)
    left = {path.name for path in (*folder.files.iterdir(), *folder.batches.iterdir())}
    assert left == {
        f"{kept.id}.json",
        f"{kept.id}.jsonl",
        f"{new.id}.jsonl",
        f"{batch.id}.json",
        results.name,
        part.name,
    }


@pytest.mark.parametrize(
    ("setting", "code"),
    [({"batch_max_lines": 10}, "too_many_requests_in_batch"), ({}, "file_not_found")],
)
def test_a_batch_that_may_not_go_on_keeps_its_results(
    tmp_path: Path, setting: dict[str, Any], code: str
) -> None:
    """Its operator restarts with a lower limit, or its file was deleted by hand."""
    with serve(SLOW, batch_folder=tmp_path, batch_concurrency=2) as live, sdk(live) as client:
        batch = submit(client, jsonl(*(line(n) for n in range(40))))
        wait_for(lambda: client.batches.retrieve(batch.id).request_counts.completed > 3)  # type: ignore[union-attr]
    if not setting:
        (tmp_path / "everybody" / "files" / f"{batch.input_file_id}.jsonl").unlink()
    with serve(batch_folder=tmp_path, **setting) as live, sdk(live) as client:
        done = ended(client, batch.id)
        assert done.status == "failed" and done.errors and done.errors.data
        assert done.errors.data[0].code == code
        answered = rows(client, done.output_file_id)
        assert done.request_counts and 3 < len(answered) == done.request_counts.completed < 40
        assert not live.engine.requests
    assert not [*tmp_path.rglob("*.part")]


def test_a_batch_goes_on_once_its_folder_can_be_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No open file is left for a moment, say; nobody restarts the server for that."""
    fail = [True]

    def first_fails(*what: Any) -> Overview:
        if fail:
            raise OSError(fail.pop() and errno.EMFILE, os.strerror(errno.EMFILE))
        return look_over(*what)

    monkeypatch.setattr("extracot_server.batches.running.look_over", first_fails)
    with serve(batch_folder=tmp_path) as live, sdk(live) as client:
        live.app.state.batch_runner.pauses.look = 0.02
        live.app.state.batch_runner.pauses.longest = 0.02
        done = ended(client, submit(client, jsonl(line(1), line(2))).id)
        assert done.status == "completed" and not fail
        assert len(live.engine.requests) == 2
