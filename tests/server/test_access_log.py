"""One line a request: what it says, however the request ends, and what it never says."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from extracot_server.observability.logging import JsonFormatter
from tests.server.key_files import SECRET, bearer, write
from tests.server.live import Live, serve, user
from tests.server.test_process import started

PROMPT = "What is the secret of Mrs Dalloway's 17 flowers?"


class Lines(logging.Handler):
    """Every line as the JSON log has it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.raw: list[str] = []
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record in both forms."""
        self.raw.append(self.format(record))
        self.words.append(record.getMessage())

    def of(self, live: Live, count: int = 1) -> list[dict[str, Any]]:
        """The lines, once there are this many: the last is written after its reply was sent."""
        live.wait_for(lambda: len(self.raw) >= count)
        assert len(self.raw) == count
        return [json.loads(line) for line in self.raw]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What the access log says during a test."""
    log, handler = logging.getLogger("extracot.access"), Lines()
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)
    log.setLevel(before)


def test_a_request_is_one_line_with_its_report(token_server: Live, lines: Lines) -> None:
    headers = {"x-request-id": "mine-1"}
    body = {"messages": user(PROMPT), "budget": 0.4}
    reply = token_server.http.post("/v1/chat/completions", json=body, headers=headers).json()
    (line,) = lines.of(token_server)
    report, usage = reply["budget"], reply["usage"]
    seconds = [line.pop(name) for name in sorted(line) if name.endswith("seconds")]
    assert len(seconds) == 4 and all(0 <= value <= line_total(lines) for value in seconds)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "extracot.access",
        "message": "request",
        "request_id": "mine-1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "outcome": "ok",
        "model": "scripted",
        "budget": "0.4",
        "source": "budget",
        "choices": 1,
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "reasoning_tokens": report["reasoning_tokens"],
        "answer_tokens": report["answer_tokens"],
        "saved_tokens": report["saved_tokens_estimate"],
        "total_saved_tokens": report["total_saved_tokens_estimate"],
        "realised_ratio": report["realised_ratio"],
        "cap_hit": False,
        "finish_reasons": ["stop"],
    }
    assert lines.words[0].startswith("POST /v1/chat/completions 200 ok in ")
    assert f"{report['saved_tokens_estimate']:g} saved" in lines.words[0]


def line_total(lines: Lines) -> float:
    """Seconds from the first byte of a request to the last of its reply."""
    found: float = json.loads(lines.raw[0])["seconds"]
    return found


def test_lines_and_reports_and_counters_agree(lines: Lines) -> None:
    with serve() as live:
        bodies: list[dict[str, Any]] = [{"budget": 0.2}, {"budget": "auto", "n": 3, "seed": 4}, {}]
        replies = [live.chat(**body) for body in bodies]
        found = lines.of(live, len(bodies))
        for name in ("reasoning_tokens", "answer_tokens"):
            counted = live.metric_sum(f"extracot_{name}_total")
            assert sum(line[name] for line in found) == counted
        saved = sum(line.get("saved_tokens", 0) for line in found)
        assert saved == sum(r["budget"]["saved_tokens_estimate"] or 0 for r in replies)
        assert found[1]["choices"] == 3 and len(found[1]["finish_reasons"]) == 3


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"input": PROMPT}),
        ("/v1/messages", {"messages": user(PROMPT), "max_tokens": 400}),
    ],
)
def test_other_apis_have_the_same_line(
    token_server: Live, lines: Lines, path: str, body: dict[str, Any]
) -> None:
    reply = token_server.http.post(path, json={"model": "scripted", "budget": 0.4, **body})
    (line,) = lines.of(token_server)
    assert (line["path"], line["status"], line["outcome"]) == (path, 200, "ok")
    assert (line["model"], line["budget"]) == ("scripted", "0.4")
    assert line["completion_tokens"] == reply.json()["usage"]["output_tokens"]
    assert "Dalloway" not in lines.raw[0]


def test_refusals_say_why_and_unknown_models_are_not_repeated(
    token_server: Live, lines: Lines
) -> None:
    token_server.post(budget=7)
    token_server.post(model="sk-somebodys-key")
    token_server.http.get("/v1/nothing%0Ahere")
    token_server.http.get("/health")
    refused, unknown, lost = lines.of(token_server, 3)
    assert (refused["status"], refused["error"]) == (400, "invalid_value")
    assert (unknown["status"], unknown["error"]) == (404, "model_not_found")
    assert (lost["status"], lost["path"]) == (404, "unknown")
    assert all("\n" not in words and "sk-" not in words for words in lines.words)
    assert "model" not in unknown and "outcome" not in refused


@pytest.mark.parametrize(
    ("method", "path", "named"),
    [
        ("GET", "/v1/files/sk-somebodys-key", "/v1/files/{file_id}"),
        ("DELETE", "/v1/files/sk-somebodys-key", "/v1/files/{file_id}"),
        ("GET", "/v1/files/sk-somebodys-key/content", "/v1/files/{file_id}/content"),
        ("POST", "/v1/batches/sk-somebodys-key/cancel", "/v1/batches/{batch_id}/cancel"),
        ("PUT", "/v1/files/sk-somebodys-key", "/v1/files/{file_id}"),
        ("GET", "/v1/files/{file_id}", "/v1/files/{file_id}"),
        ("GET", "/v1/tokenize", "/v1/tokenize"),
        ("GET", "/v1/sk-somebodys-key", "unknown"),
        ("POST", "/v1/chat/completions/sk-somebodys-key", "unknown"),
    ],
)
def test_a_path_is_written_as_its_route_spells_it(
    token_server: Live, lines: Lines, method: str, path: str, named: str
) -> None:
    token_server.http.request(method, path)
    (line,) = lines.of(token_server)
    assert (line["method"], line["path"]) == (method, named)
    assert line["status"] in (404, 405)
    assert "sk-" not in lines.words[0] and "sk-" not in lines.raw[0]


def test_a_path_without_a_key_to_it_is_written_so_too(tmp_path: Path, lines: Lines) -> None:
    with serve(keys=write(tmp_path / "keys.yaml", {"name": "a", "key": SECRET})) as live:
        live.http.get(f"/v1/files/{SECRET}")
        live.http.get(f"/v1/{SECRET}")
        first, second = lines.of(live, 2)
    assert (first["status"], first["path"]) == (401, "/v1/files/{file_id}")
    assert (second["status"], second["path"]) == (401, "unknown")


def test_at_debug_a_path_that_is_none_is_written_in_one_line(
    token_server: Live, lines: Lines
) -> None:
    logging.getLogger("extracot.access").setLevel(logging.DEBUG)
    token_server.http.get("/v1/nothing%0Ahere")
    assert lines.of(token_server)[0]["path"] == "/v1/nothing?here"


@pytest.mark.parametrize("stream", [False, True])
def test_a_failing_engine_and_a_client_that_leaves(lines: Lines, stream: bool) -> None:
    behaviour = ScriptedBehaviour(fail_after_tokens=40, token_interval_seconds=0.005)
    with serve(behaviour) as live:
        live.post(stream=stream)
        (failed,) = lines.of(live)
        assert failed["outcome"] == "error"
        assert failed["reasoning_tokens"] > 0 and "saved_tokens" not in failed
        body = {"messages": user(), "stream": True}
        with live.http.stream("POST", "/v1/chat/completions", json=body) as response:
            next(response.iter_lines())
        left = lines.of(live, 2)[1]
        assert left["outcome"] == "aborted" and "saved_tokens" not in left


def test_neither_prompts_nor_keys_are_logged(tmp_path: Path, lines: Lines) -> None:
    keys = write(tmp_path / "keys.yaml", {"name": "chat-app", "key": SECRET})
    with serve(keys=keys) as live:
        body = {"messages": user(PROMPT), "stop": ["Dalloway"], "user": "Dalloway"}
        for headers in (bearer(SECRET), bearer("sk-wrong"), {"x-api-key": SECRET}):
            live.http.post("/v1/chat/completions", json=body, headers=headers)
        first, wrong, _ = lines.of(live, 3)
    assert first["key"] == "chat-app"
    assert (wrong["status"], wrong["error"]) == (401, "invalid_api_key")
    written = "".join(lines.raw + lines.words)
    assert "Dalloway" not in written and SECRET not in written and "sk-wrong" not in written


def test_prompts_are_logged_where_the_operator_asks_for_them(lines: Lines) -> None:
    with serve(log_prompts=True) as live:
        live.chat(messages=user(PROMPT))
        (line,) = lines.of(live)
    assert line["prompt"] == [{"role": "user", "content": PROMPT}]


def test_an_exception_is_one_line_of_json() -> None:
    formatter = JsonFormatter()
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
        record = logging.LogRecord("a", logging.ERROR, "", 0, "went %s", ("wrong",), info)
    (line,) = formatter.format(record).splitlines()
    said = json.loads(line)
    assert (said["level"], said["message"]) == ("error", "went wrong")
    assert "ValueError: two\nlines" in said["exception"]


def test_as_a_process_every_line_is_json() -> None:
    with started("--log-format", "json") as (process, url, said):
        assert httpx.post(f"{url}/v1/chat/completions", json={"messages": user()}).is_success
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        rest = process.stderr.read().decode()
        assert process.wait(60) == 0
    every = [json.loads(line) for line in f"{said}{rest}".splitlines()]
    assert {line["logger"] for line in every} >= {"extracot.serve", "extracot.access"}
    assert [line["outcome"] for line in every if line["logger"] == "extracot.access"] == ["ok"]


def test_as_a_process_people_get_lines_for_people() -> None:
    with started() as (process, url, _):
        httpx.post(f"{url}/v1/chat/completions", json={"messages": user(), "budget": 7})
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        rest = process.stderr.read().decode()
        assert process.wait(60) == 0
    assert "INFO extracot.access: POST /v1/chat/completions 400 invalid_value in " in rest
    assert "extracot-serve: stopping" in rest
