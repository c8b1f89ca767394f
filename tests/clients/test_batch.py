"""``extracot batch``: submits once, goes on with what it submitted, fetches beside the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from extracot_client import Extracot
from extracot_client.batch_calls import Batch, Batches
from extracot_client.cli import main
from extracot_client.commands import batch
from extracot_client.errors import ConnectionLostError
from extracot_client.retries import RetryPolicy
from tests.clients import fake_server as fake
from tests.clients.fake_server import FakeServer
from tests.server.batch_client import jsonl, line
from tests.server.live import Live, serve

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server that keeps batches."""
    with serve(batch_folder=tmp_path_factory.mktemp("batches")) as found:
        yield found


@pytest.fixture
def file(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Requests, and the command's way to the server."""
    monkeypatch.setenv("EXTRACOT_BASE_URL", live.url)
    path = tmp_path / "asked.jsonl"
    path.write_bytes(jsonl(line(1), line(2)))
    return path


def test_a_file_is_answered_and_submitted_once(live: Live, file: Path, capsys: Captured) -> None:
    before = len(live.engine.requests)
    assert main(["batch", str(file), "--window", "2h"]) == 0
    out, err = capsys.readouterr()
    assert "completed: 2 of 2 answered" in out and "submitted as batch_" in err
    results = file.with_suffix(".results.jsonl")
    assert {json.loads(row)["custom_id"] for row in results.read_text().splitlines()} == {
        "r1",
        "r2",
    }
    results.unlink()
    assert main(["batch", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["completion_window"] == "2h" and found["files"] == {"results": str(results)}
    assert results.exists() and len(live.engine.requests) - before == 2


def test_lines_that_fail_are_fetched_too(file: Path, capsys: Captured) -> None:
    file.write_bytes(jsonl(line(1), line(2, budget=9)))
    assert main(["batch", str(file)]) == 1
    out = capsys.readouterr().out
    assert "1 of 2 answered, 1 failed" in out
    row = json.loads(file.with_suffix(".errors.jsonl").read_text())
    assert row["custom_id"] == "r2" and row["response"]["status_code"] == 400


def test_what_could_not_run_is_said(file: Path, capsys: Captured) -> None:
    file.write_bytes(b"hello\n")
    assert main(["batch", str(file)]) == 1
    assert "No line of the input file is a request." in capsys.readouterr().out


def test_without_waiting_it_can_be_cancelled(file: Path, capsys: Captured) -> None:
    assert main(["batch", str(file), "--no-wait"]) == 0
    capsys.readouterr()
    assert main(["batch", str(file), "--cancel"]) in (0, 1)  # it may have ended before
    out = capsys.readouterr().out
    assert "cancelled" in out or "completed" in out


@pytest.mark.parametrize("change", ["file", "server", "note", "gone"])
def test_what_was_submitted_must_be_what_is_there(
    file: Path, capsys: Captured, change: str
) -> None:
    assert main(["batch", str(file)]) == 0
    beside = file.with_suffix(".batch.json")
    known = json.loads(beside.read_text())
    match change:
        case "file":
            file.write_bytes(jsonl(line(1)))
        case "server":
            beside.write_text(json.dumps({**known, "server": "http://elsewhere"}))
        case "note":
            beside.write_text("{}")
        case _:
            beside.write_text(json.dumps({**known, "batch_id": f"batch_{'0' * 32}"}))
    capsys.readouterr()
    assert main(["batch", str(file)]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and str(beside) in err


def test_nothing_is_there_to_cancel(file: Path, capsys: Captured) -> None:
    assert main(["batch", str(file), "--cancel"]) == 2
    assert "nothing was submitted" in capsys.readouterr().err
    assert main(["batch", str(file.with_name("no.jsonl"))]) == 2


def test_ctrl_c_leaves_the_batch_running(
    file: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(*_: object) -> Batch:
        raise KeyboardInterrupt

    monkeypatch.setattr(Batches, "get", get)
    assert main(["batch", str(file)]) == 130
    assert "goes on; the same command follows it" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setenv("EXTRACOT_BASE_URL", json.loads(_note(file))["server"])
    assert main(["batch", str(file)]) == 0


def _note(file: Path) -> str:
    return file.with_suffix(".batch.json").read_text()


def test_a_server_without_batches_says_so(token_url: str, file: Path, capsys: Captured) -> None:
    assert main(["--base-url", token_url, "batch", str(file)]) == 1
    assert "batch_folder" in capsys.readouterr().err


@pytest.fixture(scope="module")
def token_url() -> Iterator[str]:
    """A server as it is without a setting."""
    with serve() as found:
        yield found.url


def test_nothing_is_submitted_that_could_not_be_noted(
    live: Live, file: Path, capsys: Captured
) -> None:
    before = live.http.get("/v1/batches").json()["data"]
    file.with_suffix(".batch.json.part").mkdir()  # in the way
    assert main(["batch", str(file)]) == 2
    assert "asked.batch.json.part" in capsys.readouterr().err
    assert live.http.get("/v1/batches").json()["data"] == before


def test_a_batch_that_cannot_be_noted_after_all_is_named(
    file: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "asked.batch.json.part")

    assert main(["batch", str(file), "--window", "3x"]) == 1
    monkeypatch.setattr(batch, "_keep", full)
    assert main(["batch", str(file)]) == 2
    err = capsys.readouterr().err
    assert "submitted as batch_" in err and "could not be noted" in err and "No space left" in err


def test_a_changed_file_is_submitted_once_what_there_was_is_gone(
    file: Path, capsys: Captured
) -> None:
    file.write_bytes(jsonl(line(1, budget=9)))
    assert main(["batch", str(file)]) == 1
    file.write_bytes(jsonl(line(1)))
    assert main(["batch", str(file)]) == 2
    told = capsys.readouterr().err
    gone = [file.with_suffix(".batch.json"), file.with_suffix(".errors.jsonl")]
    for there in gone:
        assert there.name in told
        there.unlink()
    assert main(["batch", str(file)]) == 0
    assert "1 of 1 answered" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["results", "errors"])
def test_a_file_of_another_is_never_written_over(
    live: Live, file: Path, capsys: Captured, kind: str
) -> None:
    theirs = file.with_suffix(f".{kind}.jsonl")
    theirs.write_text("mine")
    before = live.http.get("/v1/batches").json()["data"]
    assert main(["batch", str(file)]) == 2
    assert str(theirs) in capsys.readouterr().err
    assert live.http.get("/v1/batches").json()["data"] == before
    theirs.rename(file.with_name("away"))
    assert main(["batch", str(file), "--no-wait"]) == 0
    theirs.write_text("mine")  # nor one that comes later
    file.with_name("away").unlink()
    code = main(["batch", str(file)])
    assert theirs.read_text() == "mine" and code == (2 if kind == "results" else 0)
    theirs.unlink()
    assert main(["batch", str(file)]) == 0
    assert file.with_suffix(".results.jsonl").exists()


def test_files_of_like_names_do_not_share_a_note(file: Path, capsys: Captured) -> None:
    other = file.with_suffix(".json")
    other.write_bytes(jsonl(line(3)))
    bare = file.with_suffix("")
    bare.write_bytes(jsonl(line(4)))
    for path in (file, other):
        assert main(["batch", str(path)]) == 0
    assert "r3" in file.with_name("asked.json.results.jsonl").read_text()
    assert "r1" in file.with_suffix(".results.jsonl").read_text()
    capsys.readouterr()
    assert main(["batch", str(bare)]) == 2
    assert "is of asked.jsonl: rename one" in capsys.readouterr().err


class Lost(Batches):
    """The server takes what is sent, and the reply does not arrive."""

    def create(self, file_id: str, endpoint: str, window: str) -> Batch:
        """As a connection that breaks then."""
        super().create(file_id, endpoint, window)
        raise ConnectionLostError("The server closed the connection")


@pytest.mark.parametrize("and_then", [[], ["--cancel"]])
def test_a_batch_whose_reply_was_lost_is_not_submitted_again(
    live: Live,
    file: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    and_then: list[str],
) -> None:
    before = live.http.get("/v1/batches").json()["data"]
    monkeypatch.setattr(batch, "Batches", Lost)
    assert main(["batch", str(file)]) == 1
    monkeypatch.undo()
    monkeypatch.setenv("EXTRACOT_BASE_URL", live.url)
    assert main(["batch", str(file), *and_then]) in ((0, 1) if and_then else (0,))
    after = live.http.get("/v1/batches").json()["data"]
    assert len(after) == len(before) + 1 and after[0]["id"] in _note(file)
    assert capsys.readouterr().err.count("submitted as") == 1


def test_what_never_arrived_is_submitted_from_the_uploaded_file(
    live: Live, file: Path, capsys: Captured
) -> None:
    assert main(["batch", str(file), "--window", "3x"]) == 1
    assert main(["batch", str(file), "--cancel"]) == 2
    assert "nothing was submitted" in capsys.readouterr().err
    uploaded = json.loads(_note(file))["file_id"]
    assert main(["batch", str(file)]) == 0
    assert live.http.get("/v1/batches").json()["data"][0]["input_file_id"] == uploaded


def test_an_uploaded_file_that_has_gone_is_uploaded_anew(
    live: Live, file: Path, capsys: Captured
) -> None:
    assert main(["batch", str(file), "--window", "3x"]) == 1
    live.http.delete(f"/v1/files/{json.loads(_note(file))['file_id']}")
    assert main(["batch", str(file)]) == 1
    assert main(["batch", str(file)]) == 0
    assert "2 of 2 answered" in capsys.readouterr().out


def test_a_refusal_that_asks_to_come_back_is_asked_again(file: Path) -> None:
    busy = fake.error(503, retry_after="0")
    made, begun = ({"id": "file-1"}, {"id": "b-1", "status": "completed"})
    handlers = [busy, fake.reply(200, made), busy, fake.reply(200, begun)]
    with FakeServer(handlers) as server, Extracot(server.url, retry=RetryPolicy(base=0)) as client:
        batches = Batches(client)
        assert batches.upload(file).id == "file-1"
        assert batches.create("file-1", "/v1/chat/completions", "24h").id == "b-1"
    assert len(server.seen) == 4
    assert all(file.read_bytes() in request.body for request in server.seen[:2])


def test_what_a_batch_waits_for_is_told_once(file: Path, capsys: Captured) -> None:
    fault = {"data": [{"message": "the disk is full"}]}
    runs = {"id": "b-1", "status": "in_progress", "request_counts": {"total": 2}}
    states = [runs, {**runs, "errors": fault}, {**runs, "errors": fault}, runs]
    ends = {**runs, "status": "completed", "request_counts": {"total": 2, "completed": 2}}
    replies = [{"id": "file-1"}, *states, ends]
    with FakeServer([fake.reply(200, reply) for reply in replies]) as server:
        assert main(["--base-url", server.url, "batch", str(file)]) == 0
    _, *told = capsys.readouterr().err.splitlines()
    waits = "in_progress: 0 of 2; it waits: the disk is full"
    assert told == ["in_progress: 0 of 2", waits, "in_progress: 0 of 2"]
