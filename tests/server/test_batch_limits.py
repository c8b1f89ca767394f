"""What a key may keep, results and records included, while they are written; whose turn it is."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch

from extracot_server.batches.lines import Line, read_lines
from extracot_server.batches.records import StorageLimitError, StoredBatch, new_batch_id
from extracot_server.batches.store import BatchStore, KeyFolder
from extracot_server.config.batch_settings import BatchSettings
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.batch_client import CHAT, ENDED, ended, jsonl, line, rows, sdk, submit
from tests.server.key_files import OTHER, SECRET, write
from tests.server.live import Live, serve, wait_for


def two_keys(folder: Path) -> Path:
    return write(folder / "keys.yaml", {"name": "a", "key": SECRET}, {"name": "b", "key": OTHER})


def on_disk(folder: Path) -> int:
    """Bytes below a folder, counted anew."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def waits(client: openai.OpenAI, batch_id: str) -> bool:
    """Whether a batch says that it waits for room."""
    errors = client.batches.retrieve(batch_id).errors
    return errors is not None and errors.data is not None and "waits" in str(errors.data[0].message)


def counts(client: openai.OpenAI, batch_id: str) -> int:
    """How many lines of a batch were answered."""
    found = client.batches.retrieve(batch_id).request_counts
    return 0 if found is None else found.completed


def quick(live: Live) -> None:
    """Waits are short in a test."""
    live.app.state.batch_runner.pauses.look = 0.02


# Results --------------------------------------------------------------------------------------


def test_results_keep_to_the_limit_of_their_key_and_lock_nobody_out(tmp_path: Path) -> None:
    """A small file has large results: a row for each of its lines that is no request."""
    content = jsonl(line(1), *[b"x"] * 300)
    limits = {"batch_key_bytes": 100_000, "batch_folder_bytes": 200_000}
    kept = tmp_path / "kept"
    with serve(keys=two_keys(tmp_path), batch_folder=kept, **limits) as live:  # type: ignore[arg-type]
        quick(live)
        with sdk(live, SECRET) as client:
            file = client.files.create(file=("a", content), purpose="batch").id
            made: list[Batch] = []

            def another() -> None:
                what: dict[str, Any] = {"endpoint": CHAT, "completion_window": "24h"}
                made.append(client.batches.create(input_file_id=file, **what))

            def settled(batch: Batch) -> bool:
                found = client.batches.retrieve(batch.id)
                return found.status in ENDED or waits(client, batch.id)

            with pytest.raises(openai.BadRequestError, match="batch_key_bytes") as refused:
                for _ in range(12):
                    another()
                    wait_for(lambda: settled(made[-1]))
            assert refused.value.code == "storage_limit_exceeded"
            assert refused.value.param == "input_file_id"
            assert made[0].id and ended(client, made[0].id).status == "completed"
            assert waits(client, made[-1].id)
        assert on_disk(kept / "key-a") < 103_000
        with sdk(live, OTHER) as other:
            assert ended(other, submit(other, jsonl(line(1))).id).status == "completed"


def test_a_batch_waits_for_room_and_goes_on_when_there_is_some(tmp_path: Path) -> None:
    limits = {"batch_key_bytes": 90_000, "batch_concurrency": 2}
    with serve(batch_folder=tmp_path, **limits) as live, sdk(live) as client:  # type: ignore[arg-type]
        quick(live)
        kept = client.files.create(file=("a", b"x" * 75_000), purpose="batch")
        batch = submit(client, jsonl(*(line(n) for n in range(30))))
        wait_for(lambda: waits(client, batch.id))
        found = client.batches.retrieve(batch.id)
        assert found.status == "in_progress" and found.errors and found.errors.data
        assert found.errors.data[0].code == "storage_limit_exceeded"
        assert "batch_key_bytes" in str(found.errors.data[0].message)
        assert len(live.engine.requests) < 20
        client.files.delete(kept.id)
        done = ended(client, batch.id)
        assert done.status == "completed" and done.errors is None
        answered = [row["custom_id"] for row in rows(client, done.output_file_id)]
        assert sorted(answered) == sorted(f"r{n}" for n in range(30))
        assert len(live.engine.requests) == 30, "what was answered ran again"


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_a_batch_that_waits_for_room_ends_with_what_it_has(tmp_path: Path, end: str) -> None:
    limits = {"batch_key_bytes": 40_000, "batch_concurrency": 2}
    with serve(batch_folder=tmp_path, **limits) as live, sdk(live) as client:  # type: ignore[arg-type]
        quick(live)
        client.files.create(file=("a", b"x" * 20_000), purpose="batch")  # who deletes it makes room
        batch = submit(client, jsonl(*(line(n) for n in range(60))), completion_window="1h")
        wait_for(lambda: waits(client, batch.id))
        answered = len(live.engine.requests)
        wait_for(lambda: counts(client, batch.id) == answered)
        if end == "cancelled":
            client.batches.cancel(batch.id)
        else:
            live.app.state.batch_runner.store.clock = lambda: time.time() + 7200
        done = ended(client, batch.id)
        assert done.status == end and counts(client, batch.id) == answered
        assert len(rows(client, done.output_file_id)) == answered
        if end == "expired":
            assert done.errors and done.errors.data
            assert done.errors.data[0].code == "storage_limit_exceeded"
        assert on_disk(tmp_path) < 48_000, "lines that did not run are without bound"


# Records --------------------------------------------------------------------------------------


def store(folder: Path, **settings: Any) -> BatchStore:
    return BatchStore(folder, BatchSettings(**settings))


def batch_of(**fields: Any) -> StoredBatch:
    return StoredBatch(
        **{
            "id": new_batch_id(),
            "created_at": int(time.time()),
            "endpoint": CHAT,
            "input_file_id": f"file-{'0' * 32}",
            "completion_window": "24h",
            "deadline": int(time.time()) + 3600,
            **fields,
        }
    )


def end(folder: KeyFolder, batch: StoredBatch, results: bytes = b"") -> None:
    """What the runner leaves of a batch."""
    if results:
        folder.data_path(batch.output_file_id).write_bytes(results)
        folder.adopt(folder.path / "none", batch.output_file_id, "o", "batch_output", None)
    batch.reached("completed" if results else "cancelled", int(time.time()))
    batch.save(folder.batches)


def test_records_count_and_those_without_results_make_room(tmp_path: Path) -> None:
    """Clients can delete no batch, so none may lock its key out."""
    folder = store(tmp_path, batch_key_bytes=50_000).of("a")
    metadata = {str(n): "x" * 512 for n in range(16)}
    for n in range(40):
        batch = batch_of(metadata=metadata, created_at=n)
        folder.add_batch(batch)
        end(folder, batch)
    assert on_disk(tmp_path) < 70_000
    assert [found.created_at for found in folder.list_batches()][:3] == [39, 38, 37]
    folder.finish(folder.begin_upload(), "a", None)


def test_a_key_keeps_so_many_batches(tmp_path: Path) -> None:
    folder = store(tmp_path, batch_key_batches=3).of("a")
    made = [batch_of(created_at=n) for n in range(3)]
    for batch in made:
        folder.add_batch(batch)
        end(folder, batch, b"{}\n")
    with pytest.raises(StorageLimitError, match="`batch_key_batches`") as refused:
        folder.add_batch(batch_of())
    assert refused.value.code == "batch_limit_exceeded"
    folder.delete_file(made[1].output_file_id)
    new = batch_of()
    folder.add_batch(new)
    assert {found.id for found in folder.list_batches()} == {made[0].id, made[2].id, new.id}


def test_a_new_batch_is_refused_at_each_limit(tmp_path: Path) -> None:
    full = store(tmp_path, batch_key_files=1, batch_folder_bytes=3000)
    folder = full.of("a")
    upload = folder.begin_upload()
    upload.write(b"x" * 1000)
    folder.finish(upload, "a", None)
    with pytest.raises(StorageLimitError, match="`batch_key_files`"):
        folder.add_batch(batch_of())
    other = full.of("b").begin_upload()
    other.write(b"x" * other.limit)
    full.of("b").finish(other, "b", None)
    with pytest.raises(StorageLimitError, match="keys take all of the 3000 bytes"):
        full.of("c").add_batch(batch_of())
    with pytest.raises(StorageLimitError, match="keys take all of the 3000 bytes"):
        full.of("c").begin_upload()


def test_batches_that_have_ended_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = store(tmp_path)
    folder = found.of("a")
    for _ in range(30):
        batch = batch_of()
        folder.add_batch(batch)
        end(folder, batch)
    assert not [*found.unfinished()]
    read: list[Path] = []
    real = StoredBatch.load

    def load(path: Path) -> StoredBatch | None:
        read.append(path)
        return real(path)

    monkeypatch.setattr(StoredBatch, "load", load)
    active = batch_of()
    folder.add_batch(active)
    folder.finish(folder.begin_upload(), "a", None)
    assert [batch.id for _, batch in found.unfinished()] == [active.id] and len(read) <= 2
    # One whose mark is lost, or is from before there were marks, is found by the first look.
    (folder.active / active.id).unlink()
    assert not [*found.unfinished()]
    found.mark_unfinished()
    assert [batch.id for _, batch in found.unfinished()] == [active.id]


def test_traces_of_deleted_files_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extracot_server.batches.entries._MOST_GONE", 3)
    folder = store(tmp_path).of("a")
    for _ in range(5):
        folder.delete_file(folder.finish(folder.begin_upload(), "a", None).id)
    assert len([*folder.files.iterdir()]) == 3


def test_batches_are_listed_in_pages_of_a_hundred(tmp_path: Path) -> None:
    with serve(batch_folder=tmp_path) as live:
        folder: KeyFolder = live.app.state.batch_runner.store.of("")
        folder.finish(folder.begin_upload(), "a", None)
        made = [batch_of(created_at=1_800_000_000 + n // 3) for n in range(130)]
        for batch in made:
            end(folder, batch)
        first = live.http.get("/v1/batches?limit=100").json()
        assert len(first["data"]) == 100 and first["has_more"]
        rest = live.http.get(f"/v1/batches?limit=100&after={first['last_id']}").json()
        assert len(rest["data"]) == 30 and not rest["has_more"]
        assert {one["id"] for page in (first, rest) for one in page["data"]} == {
            batch.id for batch in made
        }


def test_the_newest_is_first_within_a_second_too(tmp_path: Path) -> None:
    folder = store(tmp_path).of("a")
    files = [folder.finish(folder.begin_upload(), "a", None).id for _ in range(9)]
    made = [batch_of(created_at=1) for _ in range(9)]
    for batch in made:
        folder.add_batch(batch)
    assert [found.id for found in folder.list_batches()] == [batch.id for batch in made[::-1]]
    assert [found.id for found in folder.list_files()] == files[::-1]


# Lines ----------------------------------------------------------------------------------------


def test_a_line_may_be_as_large_as_a_request(tmp_path: Path) -> None:
    """Whatever it is written in: UTF-8, or escapes that take three times as many bytes."""

    def body(characters: int) -> dict[str, Any]:
        return line(1, user="é" * characters)["body"]  # type: ignore[no-any-return]

    def written(number: int, characters: int, **how: Any) -> bytes:
        whole = {**line(number), "body": body(characters)}
        return json.dumps(whole, **how).encode()

    with serve(batch_folder=tmp_path, max_body_bytes=20_000) as live, sdk(live) as client:
        for characters, status in ((9_900, 200), (10_100, 413)):
            raw = json.dumps(body(characters), ensure_ascii=False, separators=(",", ":"))
            assert live.post(raw.encode()).status_code == status
        lines = [
            written(1, 9_900, ensure_ascii=False),
            written(2, 9_900),
            written(3, 9_900, separators=(",", ":")),
            written(4, 10_100, ensure_ascii=False),
            written(5, 10_100),
            jsonl({**line(6), "custom_id": "x" * 70_000}).strip(),
        ]
        done = ended(client, submit(client, jsonl(*lines)).id)
        answered = {row["custom_id"] for row in rows(client, done.output_file_id)}
        assert answered == {"r1", "r2", "r3"}
        failed = {
            row["id"].rpartition("_")[2]: row["error"] or row["response"]["body"]["error"]
            for row in rows(client, done.error_file_id)
        }
        assert {number: error["code"] for number, error in failed.items()} == dict.fromkeys(
            "456", "request_too_large"
        )
        assert failed["5"]["param"] == "body" and "20000 bytes" in failed["5"]["message"]


# Turns ----------------------------------------------------------------------------------------


def test_one_keys_batches_hold_up_no_other_keys(tmp_path: Path) -> None:
    slow = ScriptedBehaviour(token_interval_seconds=0.005)
    settings: dict[str, Any] = {"keys": two_keys(tmp_path), "batch_folder": tmp_path / "kept"}
    with serve(slow, **settings, batch_concurrency=2) as live, sdk(live, SECRET) as client:
        long = [submit(client, jsonl(*(line(n) for n in range(30)))) for _ in range(6)]
        wait_for(lambda: all(client.batches.retrieve(b.id).in_progress_at for b in long))
        with sdk(live, OTHER) as other:
            batch = submit(other, jsonl(line(1), line(2)))
            wait_for(lambda: other.batches.retrieve(batch.id).in_progress_at is not None)
            began = len(live.engine.requests)
            assert ended(other, batch.id).status == "completed"
        name = batch.id.removeprefix("batch_")
        last = max(n for n, sent in enumerate(live.engine.requests) if name in sent.request_id)
    assert last - began < 8, "it waited for all that the other key had waiting"


def test_lines_are_read_when_they_have_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of many batches at once would fill the memory: a line may have some megabytes."""
    read: list[int] = []

    def counted(*what: Any) -> Iterator[Line]:
        for found in read_lines(*what):
            read.append(found.number)
            yield found

    monkeypatch.setattr("extracot_server.batches.running.read_lines", counted)
    slow = ScriptedBehaviour(token_interval_seconds=0.02)
    with serve(slow, batch_folder=tmp_path, batch_concurrency=2) as live, sdk(live) as client:
        made = [submit(client, jsonl(*(line(n) for n in range(20)))) for _ in range(6)]
        wait_for(lambda: all(client.batches.retrieve(b.id).in_progress_at for b in made))
        wait_for(lambda: len(live.engine.requests) >= 4)
        assert len(read) <= len(live.engine.requests) + 2
