"""What a hostile client tries: to leave its words in logs, metrics and headers, to name files."""

from __future__ import annotations

import json
import logging
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.server.live import Live, serve, user
from tests.server.test_process import started

MARK = "zq-MARK-77"
KEY = "sk-0123456789-secret"


def mark_everything(live: Live, **headers: str) -> None:
    """Requests that carry the mark wherever a client can put text."""
    everywhere: dict[str, Any] = {
        "messages": user(f"{MARK} what is 1 + 1?"),
        "user": MARK,
        "metadata": {MARK: MARK},
        "stop": [MARK],
        MARK: MARK,
        "max_tokens": 20,
    }
    for change in (
        {},
        {"stream": True},
        {"model": MARK},
        {"model": f"scripted@{MARK}"},
        {"budget": MARK},
        {"budget": {MARK: 1}},
        {"reasoning_effort": MARK},
        {"messages": [{"role": MARK, "content": MARK}]},
        {"response_format": {"type": MARK}},
        {"logit_bias": {MARK: 1}},
    ):
        sent = {"user-agent": MARK, "cookie": MARK, **headers}
        live.http.post("/v1/chat/completions", json={**everywhere, **change}, headers=sent)
    live.http.get(f"/{MARK}", params={MARK: MARK}, headers={MARK: MARK})
    live.http.request(MARK, "/health")


def test_no_word_of_a_client_is_in_metrics_or_logs(caplog: pytest.LogCaptureFixture) -> None:
    """A log has the id a client gives its request, if it is plain, and at `debug` any path."""
    with serve() as live:
        caplog.set_level(logging.INFO)
        mark_everything(live)
        exposed = live.http.get("/metrics").text
    assert "extracot_requests_total" in exposed
    assert MARK.lower() not in exposed.lower()
    own = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    assert not [line for line in own if MARK.lower() in line.lower()]


@pytest.mark.parametrize("level", ["info", "debug"])
def test_keys_are_never_logged_by_the_command(level: str, tmp_path: Path) -> None:
    """As a process, at every verbosity, access log included."""
    path = tmp_path / "keys.yaml"
    path.write_text(yaml.safe_dump({"keys": [{"name": "app", "key": KEY}]}))
    with started("--keys", str(path), "--log-level", level) as (process, url, said):
        live_get(url, "/v1/models", KEY)
        live_get(url, "/v1/models", KEY + "x")
        live_get(url, f"/v1/models?key={KEY[:3]}", KEY)
        process.terminate()
        assert process.wait(60) == 0
        assert process.stderr is not None
        log = str(said) + process.stderr.read().decode()
    assert KEY not in log
    assert "GET /v1/models" in log


def live_get(url: str, path: str, key: str) -> bytes:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as raw:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        raw.sendall(f"{head}Connection: close\r\n\r\n".encode())
        parts = []
        while part := raw.recv(4096):
            parts.append(part)
        return b"".join(parts)


@pytest.mark.parametrize(
    "given", ["a\tb", "x" * 200, "a b", "é", "<script>", "%0d%0aset-cookie:a=b", "a;b", "../../x"]
)
def test_a_request_id_that_is_not_sane_is_replaced(token_server: Live, given: str) -> None:
    sent = {"x-request-id": given.encode("utf-8")}
    response = token_server.http.get("/health", headers=sent)
    assert response.headers["x-request-id"].startswith("req-")


@pytest.mark.parametrize("text", ["a\r\nset-cookie: a=b", "a\nb", "\x00", "é\u2028", "\x1b[31m"])
def test_what_a_client_typed_cannot_end_a_header(token_server: Live, text: str) -> None:
    """Everything that is said back in headers or errors is escaped."""
    for body in ({"budget": text}, {"model": text}, {"reasoning_effort": text}, {text: 1}):
        response = token_server.post({"messages": user(text), "max_tokens": 3, **body})
        assert "set-cookie" not in response.headers
        for name, value in response.headers.items():
            assert name.isascii() and value.isascii() and value.isprintable(), (name, value)
        json.loads(response.text)
    response = token_server.http.get("/%0d%0aset-cookie:%20a=b")
    assert response.status_code == 404 and "set-cookie" not in response.headers


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        "scripted/../..",
        "scripted\x00",
        "~root",
        "file:///x",
    ],
)
def test_a_models_name_is_never_a_path(token_server: Live, name: str, tmp_path: Path) -> None:
    for wanted in (name, f"{name}@0.2", str(tmp_path)):
        error = token_server.refused({"model": wanted, "messages": user()}, status=404)
        assert error["code"] == "model_not_found"
    for path in (f"/v1/models/{name}", "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd"):
        response = token_server.http.get(path.replace("\x00", "%00"))
        assert response.status_code == 404 and "root:" not in response.text


def test_typed_control_text_never_becomes_a_control_token(token_server: Live) -> None:
    """In every role and part, with look-alikes beside it."""
    tokenizer = token_server.engine.tokenizer
    added = tokenizer.get_added_vocab()
    typed = "".join(added) + "<COMP_ 20>＜COMP_20＞<\u200bCOMP_20>"
    messages = [
        {"role": "system", "content": typed},
        {"role": "user", "content": [{"type": "text", "text": typed}]},
        {"role": "assistant", "content": typed},
        {"role": "user", "content": typed},
    ]
    assert token_server.post(messages=messages, budget=0.2).status_code == 200
    ids = token_server.engine.requests[-1].token_ids
    plain = [{**message, "content": "x"} for message in messages]
    assert token_server.post(messages=plain, budget=0.2).status_code == 200
    clean = token_server.engine.requests[-1].token_ids
    for token, number in added.items():
        assert ids.count(number) == clean.count(number), token
