"""The OpenAPI document: complete, true of what is sent, and true of what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from extracot.report import BudgetReport
from extracot_server.api.chat.request import UNSUPPORTED, ChatCompletionRequest
from extracot_server.api.chat.schemas import ChatCompletionChunk
from extracot_server.api.openapi.examples import BODIES, REPLIES
from extracot_server.app import openapi_document
from tests.server.live import Live, read_chunks, serve, user


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Of a server as it is without any setting."""
    return openapi_document()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation with its name for messages."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def test_every_reference_leads_somewhere_and_every_schema_is_used(
    document: dict[str, Any],
) -> None:
    named = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert named == set(document["components"]["schemas"])


def test_every_field_of_a_request_and_of_a_report_says_what_it_is(
    document: dict[str, Any],
) -> None:
    schemas = document["components"]["schemas"]
    request = schemas["ChatCompletionRequest"]["properties"]
    assert set(request) >= {*ChatCompletionRequest.model_fields, *UNSUPPORTED.hints}
    report = schemas["BudgetReport"]["properties"]
    assert set(report) == set(BudgetReport.model_fields)
    for name, field in {**request, **report}.items():
        assert field["description"], name


def test_every_operation_has_its_errors_headers_and_examples(document: dict[str, Any]) -> None:
    every = dict(operations(document))
    assert every
    for name, operation in every.items():
        assert operation["description"], name
        wanted = {"401", "500"} if "/v1/" in name else set()
        if name.startswith("POST"):
            wanted |= {"400", "404", "413"}
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                assert content["schema"] if "form-data" in kind else content["examples"], name
        assert wanted <= set(operation["responses"]), name
        for status, response in operation["responses"].items():
            assert response["description"] and response["headers"]["x-request-id"]
            for kind, content in response["content"].items():
                assert content["schema"], (name, status, kind)
                shown = content.get("examples") or (name.startswith("GET") and status == "200")
                assert shown or "Readiness" in str(content["schema"]), (name, status, kind)
            if status == "429" or (status == "503" and "POST" in name):
                assert response["headers"]["Retry-After"]["required"]


def test_the_document_is_that_of_this_server(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text(yaml.safe_dump({"keys": [{"name": "a", "key": "sk-a"}]}))
    chosen: dict[str, Any] = {"max_choices": 3, "max_messages": 5, "protect_metrics": True}
    with serve(keys=keys, **chosen) as live:
        found = live.http.get("/openapi.json").json()
        live.http.headers["x-api-key"] = "sk-a"
        efforts = live.http.get("/v1/budget").json()["policy"]["reasoning_effort"]
    fields = found["components"]["schemas"]["ChatCompletionRequest"]["properties"]
    assert fields["n"]["anyOf"][0]["maximum"] == 3
    assert fields["messages"]["maxItems"] == 5
    assert fields["reasoning_effort"]["anyOf"][0]["enum"] == [*efforts]
    for name, operation in operations(found):
        guarded = "/v1/" in name or "/metrics" in name
        assert operation.get("security", []) == (
            [{"key": []}, {"x-api-key": []}] if guarded else []
        )
        assert ("401" in operation["responses"]) is guarded


# The examples ---------------------------------------------------------------------------------


def plain(reply: dict[str, Any]) -> dict[str, Any]:
    """A reply without what differs from run to run."""
    return {**reply, "id": None, "created": None}


def test_the_examples_are_what_the_server_says(token_server: Live) -> None:
    def ask(path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = token_server.http.post(path, json=body)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    chat, tokenize = "/v1/chat/completions", "/v1/tokenize"
    assert plain(ask(chat, BODIES[chat]["a ratio"])) == plain(REPLIES[chat])
    assert ask(tokenize, BODIES[tokenize]["a text"]) == REPLIES[tokenize]
    for name, body in BODIES[chat].items():
        if not body.get("stream"):
            assert ask(chat, body)["choices"], name
    assert read_chunks(token_server.post(BODIES[chat]["a stream"]).text)


@pytest.mark.parametrize(
    "fields",
    [
        {"budget": 0.2, "stream_options": {"include_usage": True}},
        {"budget": "auto", "n": 2, "logprobs": True, "top_logprobs": 2},
        {"budget": "none", "include_reasoning": False},
    ],
)
def test_every_chunk_of_a_stream_is_as_documented(
    token_server: Live, fields: dict[str, Any]
) -> None:
    for chunk in token_server.chunks(**fields):
        ChatCompletionChunk.model_validate(chunk)


def test_errors_that_are_shown_have_the_code_that_is_sent(
    token_server: Live, document: dict[str, Any]
) -> None:
    """Their texts may differ; type, code and field are what a program reads."""
    post = document["paths"]["/v1/chat/completions"]["post"]
    shown = {
        name: example["value"]["error"]
        for status in ("400", "404")
        for name, example in post["responses"][status]["content"]["application/json"][
            "examples"
        ].items()
    }
    sent = {
        "budget": token_server.refused(budget=1.2),
        "missing": token_server.refused({"model": "scripted"}),
        "unsupported": token_server.refused(audio={"voice": "x"}),
        "too_long": token_server.refused(messages=user("apples " * 9000)),
        "json": token_server.refused("[]"),
        "model": token_server.refused(model="gpt-4o", status=404),
    }
    assert set(shown) == set(sent)
    for name, error in sent.items():
        for key in ("type", "code", "param"):
            assert error[key] == shown[name][key], (name, key)
