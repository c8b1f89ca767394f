"""Everything beside the chat: models, budget, health, ids, routes that are not there, OpenAPI."""

from __future__ import annotations

import re
from typing import Any

import pytest

import extracot
from extracot_server.app import openapi_document
from tests.server.live import Live, serve, user


def test_models_and_aliases(token_server: Live) -> None:
    listed = token_server.http.get("/v1/models").json()
    assert listed["object"] == "list"
    names = [entry["id"] for entry in listed["data"]]
    assert names[0] == "scripted"
    assert set(names[1:]) == {
        f"scripted@{alias}"
        for alias in ("0.2", "0.4", "0.6", "0.8", "1.0", "auto", "native", "none")
    }
    first = listed["data"][0]
    assert (first["object"], first["parent"], first["max_model_len"]) == ("model", None, 4096)
    assert first["budget"]["mode"] == "token"
    assert [level["expected_ratio"] for level in first["budget"]["levels"]][:2] == [0.22, 0.41]
    for name in names:
        assert token_server.http.get(f"/v1/models/{name}").json()["id"] == name
        assert token_server.chat(model=name)["model"] == name


def test_models_in_cap_mode(cap_server: Live) -> None:
    first, *aliases = cap_server.http.get("/v1/models").json()["data"]
    assert (first["budget"]["mode"], first["budget"]["levels"]) == ("cap", [])
    assert "auto" not in first["budget"]["allowed"]
    for entry in aliases:
        assert cap_server.chat(model=entry["id"])["budget"]["source"] == "alias"


def test_an_unknown_model_is_404(token_server: Live) -> None:
    response = token_server.http.get("/v1/models/nope")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert token_server.http.get("/v1/budget?model=nope").status_code == 404


def test_budget_tells_card_and_policy(token_server: Live, cap_server: Live) -> None:
    told = token_server.http.get("/v1/budget").json()
    assert (told["mode"], told["baseline"]["source"]) == ("token", "card")
    assert told["card"]["levels"][0]["token"] == "<COMP_20>"
    assert told["policy"]["default"] == "native"
    assert told["policy"]["reasoning_effort"]["low"] == 0.4
    capped = cap_server.http.get("/v1/budget").json()
    assert (capped["card"], capped["levels"], capped["mode"]) == (None, [], "cap")
    assert capped["baseline"] == {
        "source": "assumed",
        "assumed_reasoning_tokens": 100,
        "assumed_by": "setting",
        "measured_reasoning_tokens": None,
    }


def test_health_ready_metrics(token_server: Live) -> None:
    assert token_server.http.get("/health").json() == {"status": "ok"}
    assert token_server.http.get("/ready").status_code == 200
    response = token_server.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    samples = token_server.metrics()
    info = next(dict(has) for name, has in samples if name == "extracot_build_info")
    assert info["version"] == extracot.__version__
    assert (info["engine"], info["model"], info["mode"]) == ("scripted", "scripted", "token")
    assert token_server.metric_sum("extracot_engine_up", model="scripted") == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("POST", "/v1/completions", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/docs", 405, "method_not_allowed"),
    ],
)
def test_routes_that_are_not_there(
    token_server: Live, method: str, path: str, status: int, code: str
) -> None:
    response = token_server.http.request(method, path)
    assert response.status_code == status
    error = response.json()["error"]
    assert (error["code"], error["type"]) == (code, "invalid_request_error")
    assert response.headers["x-request-id"]
    reads = "completions" not in path
    allowed = ("GET, HEAD" if reads else "POST") if status == 405 else None
    assert response.headers.get("allow") == allowed


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/chat/completions", "Did you mean /v1/chat/completions?"),
        ("/v1/v1/chat/completions", "Did you mean /v1/chat/completions?"),
        ("/v1/chat/completions/chat/completions", "Did you mean /v1/chat/completions?"),
        ("/v1/completions", "Did you mean /v1/chat/completions?"),
        ("/v1/chat/completion", "Did you mean /v1/chat/completions?"),
        ("/playground", "For the playground start the server with --playground true."),
    ],
)
def test_a_path_that_is_nearly_one_gets_a_hint(token_server: Live, path: str, hint: str) -> None:
    error = token_server.http.post(path, json={}).json()["error"]
    assert error["message"] == f"Not Found: POST {path}. {hint}"


@pytest.mark.parametrize("path", ["/nope", "/v1/embeddings", "/favicon.ico", "/v1"])
def test_a_path_like_none_gets_no_hint(token_server: Live, path: str) -> None:
    assert token_server.http.get(path).json()["error"]["message"].startswith("Not Found: GET /")
    assert "Did you mean" not in token_server.http.get(path).text


READ = ["/health", "/ready", "/metrics", "/v1/models", "/v1/models/scripted@0.2", "/v1/budget"]


@pytest.mark.parametrize("path", [*READ, "/ready?model=nope", "/v1/models/nope", "/openapi.json"])
def test_head_is_get_without_a_body(token_server: Live, path: str) -> None:
    own = {"x-request-id": "one"}
    read, head = (token_server.http.request(name, path, headers=own) for name in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (read.status_code, b"")
    changing = {"date", "content-length" if path == "/metrics" else "date"}
    for name in {*read.headers} - changing:
        assert head.headers[name] == read.headers[name], name
    assert {*head.headers} == {*read.headers}
    # The connection is still in step.
    assert token_server.http.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/usage", "by, start, end, key, format"),
        ("/v1/canary", "model"),
        ("/v1/budget", "model"),
        ("/ready", "model"),
    ],
)
def test_our_own_endpoints_refuse_parameters_they_do_not_know(
    token_server: Live, path: str, allowed: str
) -> None:
    for query in ("modle=scripted", "modle", "modle=&by=day", "modle=1&modle=2"):
        refused = token_server.http.get(f"{path}?{query}")
        error = refused.json()["error"]
        assert (refused.status_code, error["param"]) == (400, "modle")
        assert error["message"].endswith(
            f"`modle` is not a parameter of this endpoint. Allowed: {allowed}."
        )
    assert token_server.http.head(f"{path}?modle=scripted").status_code == 400


@pytest.mark.parametrize("path", ["/health", "/metrics", "/v1/models", "/v1/models/scripted"])
def test_others_read_past_them(token_server: Live, path: str) -> None:
    assert token_server.http.get(path, params={"after": "x"}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/tokenize"])
def test_what_cannot_be_read_has_no_head(token_server: Live, path: str) -> None:
    response = token_server.http.head(path)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_head_needs_a_key_and_a_dead_engine_is_not_ready() -> None:
    with serve(api_key="sk-a") as live:
        assert live.http.head("/v1/models").status_code == 401
        assert live.http.head("/v1/models", headers={"x-api-key": "sk-a"}).status_code == 200
        live.loop.call_soon_threadsafe(live.engine.die)
        live.wait_for(lambda: live.http.head("/ready").status_code == 503)
        assert live.http.head("/health").status_code == 200


def test_request_ids(token_server: Live) -> None:
    generated = {token_server.post().headers["x-request-id"] for _ in range(3)}
    assert len(generated) == 3
    own = token_server.http.get("/health", headers={"x-request-id": "My-id.1:2_3"})
    assert own.headers["x-request-id"] == "My-id.1:2_3"
    for bad in ("with space", "x" * 129, 'a"b', "é"):
        headers = {"x-request-id": bad.encode()}
        returned = token_server.http.get("/health", headers=headers).headers["x-request-id"]
        assert re.fullmatch(r"req-[0-9a-f]{32}", returned)


@pytest.mark.parametrize(
    ("path", "prefix", "body"),
    [
        ("/v1/chat/completions", "chatcmpl-", {"messages": [{"role": "user", "content": "x"}]}),
        ("/v1/responses", "resp_", {"input": "x"}),
        (
            "/v1/messages",
            "msg_",
            {"max_tokens": 90, "messages": [{"role": "user", "content": "x"}]},
        ),
    ],
)
def test_a_request_s_id_may_come_again_a_reply_s_does_not(
    token_server: Live, path: str, prefix: str, body: dict[str, Any]
) -> None:
    # LangGraph, for one, takes messages of equal ids for one message, and drops the earlier.
    found = set()
    for stream in (False, True, False, True):
        reply = token_server.http.post(
            path, json={**body, "stream": stream}, headers={"x-request-id": "abc"}
        )
        assert reply.headers["x-request-id"] == "abc"
        assert token_server.engine.requests[-1].request_id.startswith("abc")
        of_one = set(re.findall(rf'"id": ?"({prefix}abc-[0-9a-f]{{12}})"', reply.text))
        assert len(of_one) == 1
        found |= of_one
    assert len(found) == 4


def test_the_served_name_is_a_setting() -> None:
    with serve(served_model_name="team/fast") as live:
        assert live.chat(model="team/fast@0.2")["model"] == "team/fast@0.2"
        assert live.http.get("/v1/models/team/fast").json()["id"] == "team/fast"
        assert live.refused(model="scripted", status=404)["code"] == "model_not_found"


def test_the_openapi_document_is_whole() -> None:
    document = openapi_document()
    text = str(document)
    schemas = document["components"]["schemas"]
    for name in re.findall(r"#/components/schemas/(\w+)", text):
        assert name in schemas, name
    assert {"ChatCompletionRequest", "ChatCompletion", "BudgetReport", "Error"} <= set(schemas)
    assert "budget" in schemas["ChatCompletionRequest"]["properties"]
    assert set(document["paths"]) >= {
        *("/v1/chat/completions", "/v1/models", "/v1/budget"),
        *("/health", "/ready", "/metrics"),
    }


def test_a_reply_has_what_the_openapi_document_promises(token_server: Live) -> None:
    schemas = openapi_document()["components"]["schemas"]
    reply = token_server.chat(budget=0.2)
    assert set(schemas["ChatCompletion"]["required"]) <= set(reply)
    assert set(schemas["BudgetReport"]["properties"]) == set(reply["budget"])


def test_the_reply_has_the_model_s_name_as_it_was_asked(token_server: Live) -> None:
    """On every API, whole and as a stream; metrics and the key's limits know the model itself."""
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": user()},
        "/v1/responses": {"input": "What is 2 + 2?"},
        "/v1/messages": {"messages": user(), "max_tokens": 99},
    }
    for path, body in bodies.items():
        for name in ("scripted", "scripted@0.4", "scripted@auto", "scripted@none", None):
            asked = {**body, "model": name, "budget": None}
            expected = name or "scripted"
            reply = token_server.http.post(path, json=asked)
            assert reply.json()["model"] == expected, path
            text = token_server.http.post(path, json={**asked, "stream": True}).text
            told = set(re.findall(r'"model": ?"([^"]*)"', text))
            assert told == {expected}, path
    labels = {dict(has).get("model") for _, has in token_server.metrics()}
    assert labels <= {"scripted", None}
