"""Files and batches belong to their key; limits; uploads that are wrong or too much."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from extracot_server.admission.keys import Principal
from extracot_server.admission.scheduler import Scheduler
from extracot_server.batches.uploads import Upload
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.batch_client import CHAT, ended, jsonl, line, rows, sdk, submit
from tests.server.key_files import OTHER, SECRET, bearer, write
from tests.server.live import Live, serve, wait_for

BOUNDARY = "xxBOUNDARYxx"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Two keys, with little room for files."""
    folder = tmp_path_factory.mktemp("keys")
    keys = write(
        folder / "keys.yaml",
        {"name": "a", "key": SECRET, "concurrency": 1, "requests_per_minute": 1},
        {"name": "b", "key": OTHER, "ceiling": 0.4},
    )
    with serve(
        keys=keys,
        batch_folder=folder / "kept",
        batch_max_file_bytes=2000,
        batch_key_bytes=20_000,
        batch_key_files=8,
        batch_key_active=1,
    ) as found:
        yield found


def test_files_and_batches_are_not_found_by_another_key(live: Live) -> None:
    with sdk(live, SECRET) as one, sdk(live, OTHER) as other:
        batch = submit(one, jsonl(line(1)))
        done = ended(one, batch.id)
        assert done.output_file_id is not None
        for wrong in (done.input_file_id, done.output_file_id):
            for call in (other.files.retrieve, other.files.content, other.files.delete):
                with pytest.raises(openai.NotFoundError):
                    call(wrong)
        for call in (other.batches.retrieve, other.batches.cancel):
            with pytest.raises(openai.NotFoundError):
                call(batch.id)
        with pytest.raises(openai.NotFoundError):
            other.batches.create(
                input_file_id=done.input_file_id, endpoint=CHAT, completion_window="24h"
            )
        assert not other.files.list().data and not other.batches.list().data
    assert live.http.get("/v1/files").status_code == 401


def test_lines_keep_to_the_keys_budget_and_hold_none_of_its_slots(live: Live) -> None:
    with sdk(live, OTHER) as client:
        done = ended(client, submit(client, jsonl(line(1, budget=1.0))).id)
        reply = rows(client, done.output_file_id)[0]["response"]["body"]
        assert reply["choices"][0]["budget"]["applied_ratio"] == 0.4
    with sdk(live, SECRET) as client:  # one request a minute, one at a time
        done = ended(client, submit(client, jsonl(*(line(n) for n in range(4)))).id)
        assert done.request_counts is not None and done.request_counts.completed == 4
    assert live.http.post(CHAT, json=line(1)["body"], headers=bearer(SECRET)).status_code == 200


def test_a_line_goes_behind_everybody_and_counts_against_no_limit_of_its_key() -> None:
    scheduler = Scheduler(max_running=1, max_queued=2)
    key = Principal("a", concurrency=1, requests_per_minute=1, priority=1000)
    running, _ = scheduler.offer(key.for_batches(), 0.0)
    waiting, _ = scheduler.offer(key.for_batches(), 0.0)
    own, _ = scheduler.offer(key, 0.0)
    other, displaced = scheduler.offer(Principal("b", priority=1000), 0.0)
    assert displaced is waiting
    order = []
    while scheduler.running:
        running = (order and order[-1]) or running
        order += scheduler.leave(running, 1.0)
    assert {id(one) for one in order} == {id(own), id(other)}


def test_limits_of_a_key(live: Live) -> None:
    with sdk(live, OTHER) as client:
        with pytest.raises(openai.APIStatusError) as large:
            client.files.create(file=("a", b"x" * 2001), purpose="batch")
        assert large.value.status_code == 413 and large.value.code == "request_too_large"
        made = [client.files.create(file=("a", b"{}\n"), purpose="batch").id for _ in range(2)]
        with pytest.raises(openai.BadRequestError, match="8 files"):
            for _ in range(8):
                made.append(client.files.create(file=("a", b"{}\n"), purpose="batch").id)
        for one in made:
            client.files.delete(one)
        client.files.create(file=("a", b"{}\n"), purpose="batch")


def test_room_that_is_taken_is_said(tmp_path: Path) -> None:
    """What does not fit beside other files is refused for those, not for its own size."""
    with serve(batch_folder=tmp_path, batch_key_bytes=4096) as live, sdk(live) as client:
        first = client.files.create(file=("a", b"x" * 3000), purpose="batch")
        with pytest.raises(openai.BadRequestError, match=r"\d{3} bytes left.*delete some") as full:
            client.files.create(file=("b", b"x" * 3000), purpose="batch")
        assert (full.value.code, full.value.param) == ("storage_limit_exceeded", "file")
        client.files.delete(first.id)
        client.files.create(file=("b", b"x" * 3000), purpose="batch")


def test_a_key_has_so_many_batches_at_once(tmp_path: Path) -> None:
    slow = ScriptedBehaviour(token_interval_seconds=0.05)
    with serve(slow, batch_folder=tmp_path, batch_key_active=1) as live, sdk(live) as client:
        batch = submit(client, jsonl(line(1, budget=1.0)))
        with pytest.raises(openai.BadRequestError, match="1 batches") as refused:
            submit(client, jsonl(line(1)))
        assert refused.value.code == "batch_limit_exceeded"
        with pytest.raises(openai.BadRequestError, match="cancel it first"):
            client.files.delete(batch.input_file_id)
        client.batches.cancel(batch.id)
        ended(client, batch.id)
        client.files.delete(batch.input_file_id)


def test_a_revoked_key_runs_no_more(tmp_path: Path) -> None:
    keys = write(tmp_path / "keys.yaml", {"name": "a", "key": SECRET}, {"name": "b", "key": OTHER})
    slow = ScriptedBehaviour(token_interval_seconds=0.02)
    settings: dict[str, Any] = {"batch_folder": tmp_path / "kept", "batch_concurrency": 1}
    with serve(slow, keys=keys, **settings) as live, sdk(live, SECRET) as client:
        batch = submit(client, jsonl(*(line(n) for n in range(5))))
        wait_for(lambda: live.in_flight() > 0)
        write(keys, {"name": "b", "key": OTHER})
        live.app.state.extracot.reload_keys()
        runner = live.app.state.batch_runner
        wait_for(lambda: runner.store.of("a").batch(batch.id).ended)
        counts = runner.store.of("a").batch(batch.id).counts
    assert counts.completed <= 1 and counts.failed >= 4


# Uploads --------------------------------------------------------------------------------------


def part(name: str, value: bytes, more: str = "") -> bytes:
    """A part of a form."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
FILE = part("file", b"{}\n", '; filename="a.jsonl"')
PURPOSE = part("purpose", b"batch")


@pytest.mark.parametrize(
    ("body", "headers", "field"),
    [
        (b"{}", {"content-type": "application/json"}, "content-type"),
        (b"", {"content-type": "multipart/form-data"}, "content-type"),
        (FILE + END, FORM, "purpose"),
        (PURPOSE + END, FORM, "file"),
        (FILE + part("purpose", b"fine-tune") + END, FORM, "purpose"),
        (part("file", b"", '; filename="a"') + PURPOSE + END, FORM, "file"),
        (part("file", b"{}") + PURPOSE + END, FORM, "file"),
        (FILE + FILE + PURPOSE + END, FORM, "file"),
        (FILE + PURPOSE + PURPOSE + END, FORM, "purpose"),
        (FILE + PURPOSE + part("budget", b"1") + END, FORM, "budget"),
        (FILE + PURPOSE + part("x", b"1" * 2000) + END, FORM, "x"),
        (FILE + PURPOSE + part("expires_after[anchor]", b"now") + END, FORM, "expires_after."),
        (FILE + PURPOSE + part("expires_after[seconds]", b"9") + END, FORM, "expires_after."),
        (FILE + PURPOSE, FORM, None),
        (FILE[:40], FORM, None),
        (b"not a form", FORM, None),
        (b"", FORM, None),
        (f"--{BOUNDARY}\r\n\r\nx\r\n".encode() + END, FORM, None),
        (f"--{BOUNDARY}\r\nA: {'b' * 9000}\r\n\r\n".encode() + END, FORM, None),
    ],
)
def test_forms_that_are_wrong(
    live: Live, body: bytes, headers: dict[str, str], field: str | None
) -> None:
    reply = live.http.post("/v1/files", content=body, headers={**headers, **bearer(SECRET)})
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["message"] and (error["param"] or "").startswith(field or "")
    kept = live.app.state.batch_runner.store.of("a").files
    assert not [*kept.glob("*.upload")]


def test_a_file_may_be_kept_for_a_while(live: Live) -> None:
    with sdk(live, OTHER) as client:
        file = client.files.create(
            file=("ä\n\u202e.jsonl", b"{}\n"),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert file.expires_at == file.created_at + 3600
        client.files.delete(file.id)


def test_a_compressed_upload_is_refused(live: Live) -> None:
    headers = {**FORM, **bearer(SECRET), "content-encoding": "gzip"}
    assert live.http.post("/v1/files", content=b"x", headers=headers).status_code == 415


def test_a_full_disk_refuses_an_upload_and_leaves_nothing(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        """A stream on a disk without room."""

        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self) -> None:
            pass

    real = Upload.write

    def write(self: Upload, data: bytes) -> None:
        self.stream.close()
        self.stream = Full()  # type: ignore[assignment]
        real(self, data)

    monkeypatch.setattr(Upload, "write", write)
    reply = live.http.post(
        "/v1/files", content=FILE + PURPOSE + END, headers={**FORM, **bearer(SECRET)}
    )
    assert reply.status_code == 503 and reply.headers["retry-after"]
    assert reply.json()["error"]["code"] == "storage_failed"
    kept = live.app.state.batch_runner.store.of("a").files
    assert not [*kept.glob("*.upload")]
