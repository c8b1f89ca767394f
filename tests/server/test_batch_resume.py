"""Batches outlive their server: stopped, killed, on a full disk, beside another process."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from extracot_server.batches.cleaning import clean
from extracot_server.batches.records import StoredFile
from extracot_server.batches.results import ResultFile, Results
from extracot_server.batches.store import BatchStore
from extracot_server.config.settings import Settings
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.batch_client import ended, jsonl, line, rows, sdk, submit
from tests.server.live import NO_RETRY, serve, wait_for

SLOW = ScriptedBehaviour(token_interval_seconds=0.005)


def lines(count: int) -> bytes:
    """An input with a broken line among the others."""
    return jsonl(*(line(n) for n in range(count)), b"{broken")


def all_answered_once(client: openai.OpenAI, batch_id: str, count: int) -> None:
    done = ended(client, batch_id)
    assert done.status == "completed" and done.request_counts is not None
    assert done.request_counts.completed == count and done.request_counts.failed == 1
    answered = Counter(row["custom_id"] for row in rows(client, done.output_file_id))
    assert answered == Counter({f"r{n}": 1 for n in range(count)})
    assert [row["error"]["line"] for row in rows(client, done.error_file_id)] == [count + 1]


def test_the_next_server_goes_on(tmp_path: Path) -> None:
    with serve(SLOW, batch_folder=tmp_path, batch_concurrency=4) as live, sdk(live) as client:
        batch = submit(client, lines(40))
        wait_for(lambda: client.batches.retrieve(batch.id).request_counts.completed > 0)  # type: ignore[union-attr]
    with serve(batch_folder=tmp_path) as live, sdk(live) as client:
        before = len(live.engine.requests)
        all_answered_once(client, batch.id, 40)
        assert before <= len(live.engine.requests) < 40, "what was answered ran again"


@contextmanager
def command(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], openai.OpenAI]]:
    """``extracot-serve`` as a process of its own."""
    flags = ["--engine", "scripted", "--port", "0", "--batch-folder", str(folder)]
    log = folder.with_suffix(".log")
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "extracot_server.cli", *flags, "--batch-concurrency", "2"],
            stderr=stream,
        )
    try:
        wait_for(lambda: "ready after" in log.read_text(), 120)
        url = log.read_text().partition("ready after ")[2].partition(" at ")[2].split("/v1")[0]
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", **NO_RETRY) as client:  # type: ignore[arg-type]
            yield process, client
    finally:
        process.kill()
        process.wait()


def test_a_killed_server_loses_no_result_and_repeats_none(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    with command(folder) as (process, client):
        batch = submit(client, lines(150))
        wait_for(lambda: any(path.stat().st_size for path in folder.glob("*/files/*.part")))
        process.send_signal(signal.SIGKILL)
        process.wait()
    part = next(path for path in folder.glob("*/files/*.part") if path.stat().st_size)
    with part.open("ab") as stream:
        stream.write(b'{"id": "torn')  # as a kill in the middle of a write leaves it
    with command(folder) as (process, client):
        all_answered_once(client, batch.id, 150)


def test_of_two_servers_one_runs_and_the_other_takes_over(tmp_path: Path) -> None:
    with serve(batch_folder=tmp_path) as other, sdk(other) as there:
        with serve(SLOW, batch_folder=tmp_path) as live, sdk(live) as client:
            batch = submit(client, lines(3))
            assert ended(there, batch.id).status == "completed"
            assert not live.engine.requests and len(other.engine.requests) == 3
            slow = submit(there, jsonl(line(1)))
            assert ended(client, slow.id).status == "completed"
        long = submit(there, lines(20))
    with serve(batch_folder=tmp_path) as live, sdk(live) as client:
        all_answered_once(client, long.id, 20)


def test_a_full_disk_holds_a_batch_up_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write fails for a while, as on a disk without room."""
    full, failures = [True], []
    real = ResultFile.append

    def append(self: ResultFile, data: bytes) -> None:
        if full[0]:
            failures.append(data)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, data)

    monkeypatch.setattr(ResultFile, "append", append)
    with serve(batch_folder=tmp_path, batch_concurrency=2) as live, sdk(live) as client:
        live.app.state.batch_runner.pauses.disk = 0.01
        batch = submit(client, lines(6))
        wait_for(lambda: len(failures) > 10)
        assert client.batches.retrieve(batch.id).status == "in_progress"
        assert len(live.engine.requests) <= 2, "lines ran whose results have no room"
        full[0] = False
        all_answered_once(client, batch.id, 6)
        assert len(live.engine.requests) == 6


def test_a_write_that_fails_half_way_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ResultFile(tmp_path / "x")
    file.append(b"{}\n")
    real = os.pwrite

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        if offset > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[:4], offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OSError, match="No space"):
        file.append(b'{"a": 1}\n')
    assert (tmp_path / "x").read_bytes() == b"{}\n"
    monkeypatch.setattr(os, "pwrite", real)
    file.append(b'{"a": 1}\n')
    file.close()
    assert (tmp_path / "x").read_bytes() == b'{}\n{"a": 1}\n'


def test_a_crash_while_results_become_files_is_mended(tmp_path: Path) -> None:
    """The batch has ended all but for its files: no line runs again."""
    with serve(batch_folder=tmp_path) as live, sdk(live) as client:
        done = ended(client, submit(client, lines(5)).id)
    path = next(tmp_path.glob("*/batches/*.json"))
    record = json.loads(path.read_text())
    record |= {"status": "finalizing", "ending": "completed", "has_output": False}
    path.write_text(json.dumps({**record, "expires_at": None}))
    next(tmp_path.glob(f"*/files/{done.output_file_id}.json")).unlink()
    with serve(batch_folder=tmp_path) as live, sdk(live) as client:
        all_answered_once(client, done.id, 5)
        assert not live.engine.requests


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    """The queue is full of another's request, so that lines are refused until it has ended."""
    settings: dict[str, Any] = {"max_running": 1, "max_queued": 0}
    with serve(SLOW, batch_folder=tmp_path, **settings) as live, sdk(live) as client:
        live.app.state.batch_runner.pauses.longest = 0.01
        with live.http.stream(
            "POST",
            "/v1/chat/completions",
            json={**line(1, budget=1.0)["body"], "stream": True},
            timeout=httpx.Timeout(30),
        ) as reply:
            batch = submit(client, lines(3))
            wait_for(lambda: live.metric_sum("extracot_rejected_total", reason="queue_full") > 0)
            reply.read()
        all_answered_once(client, batch.id, 3)


def test_what_has_expired_is_deleted(tmp_path: Path) -> None:
    now = [1_770_000_000.0]
    settings = Settings(engine="scripted", batch_keep_days=1)
    store = BatchStore(tmp_path, settings, clock=lambda: now[0])
    folder = store.of("a")
    upload = folder.begin_upload()
    upload.write(b"{}\n")
    stored: StoredFile = folder.finish(upload, "a", None)
    abandoned = folder.begin_upload()
    abandoned.stream.close()
    os.utime(abandoned.path, (1.0, 1.0))
    clean(store)
    assert folder.file(stored.id).bytes == 3 and not abandoned.path.exists()
    assert store.owners() == ["a"]
    record = folder.files / f"{stored.id}.json"
    assert store.usage.of(folder.path) == 3 + record.stat().st_size
    assert oct(folder.data_path(stored.id).stat().st_mode)[-3:] == "600"
    now[0] += 24 * 3600
    assert not folder.list_files()
    clean(store)
    (left,) = folder.files.iterdir()  # its name, for a list that is being read
    assert left.suffix == ".gone" and not left.stat().st_size


def test_results_are_counted_again_from_their_files(tmp_path: Path) -> None:
    kept = tmp_path / "o"
    usage = {"input_tokens": 3, "output_tokens": 2, "output_tokens_details": None}
    row = {"id": f"batch_req_{'0' * 32}_7", "response": {"body": {"usage": usage}}}
    kept.write_bytes(json.dumps(row).encode() + b"\n" + b'{"id": 1')
    results = Results(f"batch_{'0' * 32}", kept, tmp_path / "e")
    results.recover(9)
    assert results.done == {7} and results.counts.completed == 1
    assert (results.tokens.input, results.tokens.output, results.tokens.reasoning) == (3, 2, 0)


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    flags = ["--engine", "scripted", "--port", "0", "--batch-folder", str(tmp_path / "file")]
    done = subprocess.run(
        [sys.executable, "-m", "extracot_server.cli", *flags],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2 and "batch_folder" in done.stderr.splitlines()[-1]
