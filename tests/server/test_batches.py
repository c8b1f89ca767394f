"""``/v1/files`` and ``/v1/batches`` with OpenAI's SDK: what runs, what fails alone, what ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch, FileObject

from extracot_server.admission.keys import Principal
from extracot_server.admission.scheduler import Ticket
from extracot_server.batches.cleaning import clean
from extracot_server.batches.records import StoredFile
from extracot_server.batches.runner import BatchRunner
from extracot_server.batches.store import BatchStore
from extracot_server.config.batch_settings import BatchSettings
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.batch_client import CHAT, ended, jsonl, line, rows, sdk, submit
from tests.server.live import Live, serve, wait_for


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with a folder for batches."""
    folder = tmp_path_factory.mktemp("batches") / "kept"
    with serve(batch_folder=folder, batch_max_lines=50) as found:
        yield found


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[openai.OpenAI]:
    """OpenAI's SDK on it."""
    with sdk(live) as found:
        yield found


def test_a_batch_from_upload_to_results(live: Live, client: openai.OpenAI) -> None:
    before = live.metric_sum("extracot_requests_total")
    batch = submit(client, jsonl(*(line(n) for n in range(1, 6))), metadata={"run": "a"})
    Batch.model_validate(batch.to_dict())
    assert batch.status == "validating" and batch.output_file_id is None
    done = ended(client, batch.id)
    assert done.status == "completed" and done.metadata == {"run": "a"}
    assert done.error_file_id is None and done.errors is None
    counts = done.request_counts
    assert counts is not None and (counts.total, counts.completed, counts.failed) == (5, 5, 0)
    assert done.in_progress_at and done.finalizing_at and done.completed_at
    found = rows(client, done.output_file_id)
    assert {row["custom_id"] for row in found} == {"r1", "r2", "r3", "r4", "r5"}
    for row in found:
        assert row["error"] is None and row["response"]["status_code"] == 200
        assert row["response"]["request_id"] == row["id"]
        body = row["response"]["body"]
        assert body["object"] == "chat.completion" and body["choices"][0]["message"]["content"]
        assert body["choices"][0]["budget"]["requested"] == 0.2
    used = [row["response"]["body"]["usage"] for row in found]
    assert done.usage is not None
    assert done.usage.output_tokens == sum(one["completion_tokens"] for one in used)
    assert done.usage.output_tokens_details.reasoning_tokens > 0
    assert live.metric_sum("extracot_requests_total") - before == 5
    assert live.metric_sum("extracot_batches_total", status="completed") >= 1
    assert live.metric_sum("extracot_batch_lines_total", outcome="completed") >= 5


@pytest.mark.parametrize(
    ("url", "fields"),
    [
        ("/v1/responses", {"input": "What is 2 + 2?", "budget": 0.4}),
        (
            "/v1/messages",
            {"messages": [{"role": "user", "content": "2 + 2?"}], "max_tokens": 99, "budget": 0.4},
        ),
    ],
)
def test_the_other_endpoints_too(
    live: Live, client: openai.OpenAI, url: str, fields: dict[str, Any]
) -> None:
    one = {"custom_id": "x", "method": "POST", "url": url, "body": fields}
    done = ended(client, submit(client, jsonl(one), url).id)
    found = rows(client, done.output_file_id)
    assert [row["response"]["status_code"] for row in found] == [200], rows(
        client, done.error_file_id
    )
    assert done.usage is not None and done.usage.output_tokens > 0
    assert done.usage.output_tokens_details.reasoning_tokens > 0
    assert found[0]["response"]["body"].get("store", False) is False
    assert live.app.state.held_items.size == 0, "it pushes out no item that somebody waits for"


def test_a_failed_line_loses_no_other(live: Live, client: openai.OpenAI) -> None:
    lines = [
        line(1),
        b"{not json",
        b"[1]",
        b"",
        line(1),
        {**line(2), "method": "GET"},
        {**line(3), "url": "/v1/responses"},
        {**line(4), "body": "x"},
        {**line(5), "custom_id": 5},
        {**line(6), "priority": 1},
        line(7, stream=True),
        line(8, budget=7),
        line(9, model="gpt-4o"),
        b'{"custom_id": "\\ud800", "method": "POST", "url": "/v1/chat/completions", "body": '
        b'{"messages": [{"role": "user", "content": "\\udc00"}]}}',
        line(10),
    ]
    done = ended(client, submit(client, jsonl(*lines)).id)
    assert done.status == "completed"
    assert [row["custom_id"] for row in rows(client, done.output_file_id)] == ["r1", "r10"]
    failed = {row["id"].rpartition("_")[2]: row for row in rows(client, done.error_file_id)}
    codes = {
        number: (row["error"] or row["response"]["body"]["error"])["code"]
        for number, row in failed.items()
    }
    assert codes == {
        "2": "invalid_json_line",
        "3": "invalid_json_line",
        "5": "duplicate_custom_id",
        "6": "invalid_method",
        "7": "mismatched_endpoint",
        "8": "invalid_body",
        "9": "invalid_custom_id",
        "10": "unknown_field",
        "11": "invalid_body",
        "12": "invalid_value",
        "13": "model_not_found",
        "14": "invalid_value",
    }
    assert failed["12"]["response"]["status_code"] == 400
    assert failed["13"]["response"]["status_code"] == 404
    counts = done.request_counts
    assert counts is not None and (counts.total, counts.completed, counts.failed) == (14, 2, 12)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\n\n", "empty_file"),
        (b"hello\n", "no_valid_request"),
        (
            b'{"custom_id": "\\ud800", "method": "POST", "url": "/v1/chat/completions", '
            b'"body": {}, "\\ud800": 1}\n',
            "no_valid_request",
        ),
        (jsonl(*(line(n) for n in range(51))), "too_many_requests_in_batch"),
    ],
)
def test_a_file_of_which_nothing_can_run_fails(
    live: Live, client: openai.OpenAI, content: bytes, code: str
) -> None:
    done = ended(client, submit(client, content).id)
    assert done.status == "failed" and done.failed_at and done.errors and done.errors.data
    assert done.errors.data[0].code == code
    assert done.output_file_id is None and done.error_file_id is None


@pytest.mark.parametrize("url", [CHAT, "/v1/messages"])
def test_an_engine_that_fails_fails_its_lines_alone(tmp_path: Path, url: str) -> None:
    """Each is tried three times. Of two that the engine failed with, one runs at a time."""
    failing = ScriptedBehaviour(fail_after_tokens=3)
    lines = [line(number, url, max_tokens=99) for number in (1, 2)]
    with serve(failing, batch_folder=tmp_path) as live, sdk(live) as client:
        live.app.state.batch_runner.pauses.longest = 0.01
        done = ended(client, submit(client, jsonl(*lines, b"{}"), url).id)
        assert done.status == "completed" and done.output_file_id is None
        failed = rows(client, done.error_file_id)
        assert sum(row["response"] is not None for row in failed) == 2
        assert len(live.engine.requests) == 6


@pytest.mark.parametrize("url", [CHAT, "/v1/messages", "/v1/responses"])
def test_a_line_that_kills_the_engine_is_known(tmp_path: Path, url: str) -> None:
    """Whatever the API's form of an error says of it: so it is given up after three tries."""
    body = {"input": "2 + 2?"} if url == "/v1/responses" else line(1, max_tokens=99)["body"]
    with serve(ScriptedBehaviour(die_after_tokens=3), batch_folder=tmp_path) as live:
        send = live.app.state.batch_runner.send
        first, later = (live.run(send("", url, f"req-{n}", body)) for n in (1, 2))
        assert (first.status, first.lost) == (503, True)
        assert (later.status, later.lost) == (503, False), "it has never reached an engine"


def test_a_bug_of_ours_ends_a_batch_and_keeps_what_was_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(batch_folder=tmp_path, batch_concurrency=1) as live, sdk(live) as client:
        runner = live.app.state.batch_runner
        real, asked = runner.send, []

        async def send(*call: Any) -> Any:
            asked.append(call)
            if len(asked) > 1:
                raise TypeError("a bug")
            return await real(*call)

        runner.send = send
        done = ended(client, submit(client, jsonl(*(line(n) for n in (1, 2, 3)))).id)
        assert done.status == "failed" and done.errors and done.errors.data
        assert done.errors.data[0].code == "internal_error" and "broke off" in caplog.text
        assert [row["custom_id"] for row in rows(client, done.output_file_id)] == ["r1"]
        runner.send = real
        again = ended(client, submit(client, jsonl(line(4))).id)
        assert again.status == "completed", "the runner goes on"


def test_a_body_without_end_is_refused_alone(live: Live, client: openai.OpenAI) -> None:
    deep = (
        b'{"custom_id": "d%d", "method": "POST", "url": "/v1/chat/completions", "body": {"x": %s}}'
    )
    lines = [deep % (n, b"[" * n + b"]" * n) for n in (200, 800, 900, 950, 980, 2000)]
    done = ended(client, submit(client, jsonl(line(1), *lines)).id)
    assert done.status == "completed" and done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (1, 6)


def test_cancelling_keeps_what_was_answered(tmp_path: Path) -> None:
    slow = ScriptedBehaviour(token_interval_seconds=0.02)
    with serve(slow, batch_folder=tmp_path, batch_concurrency=1) as live, sdk(live) as client:
        batch = submit(client, jsonl(*(line(n) for n in range(200))))
        wait_for(lambda: live.in_flight() > 0)
        cancelled = client.batches.cancel(batch.id)
        assert cancelled.status == "cancelling" and cancelled.cancelling_at
        done = ended(client, batch.id)
        assert done.status == "cancelled" and done.cancelled_at
        wait_for(lambda: live.in_flight() == 0)
        kept = len(rows(client, done.output_file_id))
        assert done.request_counts is not None and done.request_counts.completed == kept < 200
        assert client.batches.cancel(batch.id).status == "cancelled"


def test_what_has_not_run_in_time_is_in_the_error_file(live: Live, client: openai.OpenAI) -> None:
    """The clock of the store is put forward by two hours while a batch waits for a slot."""
    runner = live.app.state.batch_runner
    real = runner.store.clock
    held = live.run(_take_all(runner))
    try:
        batch = submit(client, jsonl(line(1), line(2)), completion_window="1h")
        wait_for(lambda: client.batches.retrieve(batch.id).status == "in_progress")
        runner.store.clock = lambda: real() + 7200
        done = ended(client, batch.id)
    finally:
        runner.store.clock = real
        live.run(_give_back(runner, held))
    assert done.status == "expired" and done.expired_at and done.output_file_id is None
    errors = [row["error"]["code"] for row in rows(client, done.error_file_id)]
    assert errors == ["batch_expired"] * 2


async def _take_all(runner: BatchRunner) -> list[Ticket]:
    other = Principal("another", in_batch=True)
    return [await runner.slots.enter(other) for _ in range(runner.slots.scheduler.max_running or 0)]


async def _give_back(runner: BatchRunner, held: list[Ticket]) -> None:
    for ticket in held:
        runner.slots.leave(ticket)


def test_lists_are_pages(live: Live, client: openai.OpenAI) -> None:
    made = [client.files.create(file=("a", b"{}\n"), purpose="batch").id for _ in range(3)]
    FileObject.model_validate(client.files.retrieve(made[0]).to_dict())
    found = [file.id for file in client.files.list(limit=2)]
    assert set(made) <= set(found) and len(found) == len(set(found))
    upwards = [file.id for file in client.files.list(order="asc")]
    assert upwards == found[::-1]
    assert all(file.purpose == "batch" for file in client.files.list(purpose="batch"))
    ids = [ended(client, submit(client, jsonl(line(n))).id).id for n in range(2)]
    listed = [batch.id for batch in client.batches.list(limit=1)]
    assert set(ids) <= set(listed)
    for wrong in ({"after": "file-x"}, {"limit": 0}, {"limit": "x"}, {"order": "up"}):
        reply = live.http.get("/v1/files", params=wrong)
        assert reply.status_code == 400 and reply.json()["error"]["param"] == next(iter(wrong))


def test_what_is_deleted_between_pages_ends_no_list(live: Live, client: openai.OpenAI) -> None:
    for order in ("asc", "desc"):
        made = [client.files.create(file=("a", b"{}\n"), purpose="batch").id for _ in range(5)]
        seen = []
        for file in client.files.list(limit=2, order=order, purpose="batch"):
            seen.append(file.id)
            client.files.delete(file.id)
        assert set(made) <= set(seen) and len(seen) == len(set(seen))
        assert not list(client.files.list(purpose="batch"))
        # Another key's, or one that never was, is still refused.
        reply = live.http.get("/v1/files", params={"after": f"file-{'0' * 32}"})
        assert reply.status_code == 400 and reply.json()["error"]["param"] == "after"
        # And so is one of the other list.
        reply = live.http.get("/v1/batches", params={"after": file.id})
        assert reply.status_code == 400 and reply.json()["error"]["param"] == "after"


def test_a_page_begins_behind_what_has_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    store = BatchStore(tmp_path, BatchSettings(batch_keep_days=1), lambda: now[0])
    folder = store.of("")
    file = folder.finish(folder.begin_upload(), "a", 3600)
    assert folder.made_at(StoredFile, file.id) == 1000
    now[0] += 7200
    assert not folder.list_files() and folder.made_at(StoredFile, file.id) == 1000
    clean(store)
    assert folder.made_at(StoredFile, file.id) == 1000  # an hour more
    left = next(folder.files.iterdir())
    assert left.stat().st_size == 0 and not store.usage.of(folder.path)
    monkeypatch.setattr("extracot_server.batches.entries._GONE_SECONDS", -1.0)
    clean(store)
    assert folder.made_at(StoredFile, file.id) is None and not list(folder.files.iterdir())


def test_deleting(live: Live, client: openai.OpenAI) -> None:
    file = client.files.create(file=("a", jsonl(line(1))), purpose="batch")
    assert client.files.content(file.id).read() == jsonl(line(1))
    assert client.files.delete(file.id).deleted
    for path in (f"/v1/files/{file.id}", f"/v1/files/{file.id}/content"):
        reply = live.http.get(path)
        assert reply.status_code == 404 and reply.json()["error"]["type"] == "not_found_error"
    body = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"}
    reply = live.http.post("/v1/batches", json=body)
    assert reply.status_code == 404 and reply.json()["error"]["param"] == "input_file_id"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "25d"}, "completion_window"),
        ({"completion_window": "1 day"}, "completion_window"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after"),
        ({"input_file_id": None}, "input_file_id"),
        ({"budget": 0.2}, "budget"),
    ],
)
def test_wrong_batches_are_refused(
    live: Live, client: openai.OpenAI, change: dict[str, Any], field: str
) -> None:
    file = client.files.create(file=("a", jsonl(line(1))), purpose="batch")
    body = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h", **change}
    reply = live.http.post("/v1/batches", json=body)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"].startswith(field)


def test_without_a_folder_there_are_none(token_server: Live) -> None:
    with sdk(token_server) as client, pytest.raises(openai.NotFoundError, match="batch_folder"):
        client.files.list()
    reply = token_server.http.post("/v1/batches", json={})
    assert reply.status_code in (400, 404)
    assert json.loads(reply.text)["error"]["message"]
