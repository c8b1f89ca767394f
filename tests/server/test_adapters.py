"""The Responses and the Messages API in the OpenAPI document are what the server says."""

from __future__ import annotations

from typing import Any

import pytest

from extracot_server.api.body import ChatBody, ReplyModel
from extracot_server.api.budget_words import WORDS
from extracot_server.api.chat.request import ChatCompletionRequest
from extracot_server.api.messages.request import CountRequest, MessagesRequest
from extracot_server.api.messages.response import InputTokens, MessageObject
from extracot_server.api.openapi.examples import BODIES, REPLIES
from extracot_server.api.responses.request import ResponsesRequest
from extracot_server.api.responses.schemas import ResponseObject
from extracot_server.app import openapi_document
from tests.server.live import Live, user

ENDPOINTS: dict[str, type[ReplyModel]] = {
    "/v1/responses": ResponseObject,
    "/v1/messages": MessageObject,
    "/v1/messages/count_tokens": InputTokens,
}
CHANGING = ("id", "created_at", "completed_at")
CHAT = "/v1/chat/completions"
OFF: dict[str, Any] = {
    "bad_words": [],
    "best_of": 1,
    "documents": [],
    "function_call": "none",
    "functions": [],
    "kv_transfer_params": {},
    "length_penalty": 1.0,
    "logits_processors": [],
    "logprobs": False,
    "mm_processor_kwargs": {},
    "parallel_tool_calls": True,
    "response_format": {"type": "text"},
    "stop": [],
    "stop_sequences": [],
    "stop_token_ids": [],
    "top_logprobs": 0,
}


def plain(value: Any) -> Any:
    """A reply without what differs from run to run."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: None if key in CHANGING else plain(item) for key, item in value.items()}
    return value


@pytest.mark.parametrize("path", ENDPOINTS)
def test_the_examples_are_what_the_server_says(token_server: Live, path: str) -> None:
    for index, body in enumerate(BODIES[path].values()):
        reply = token_server.http.post(path, json=body)
        assert reply.status_code == 200, reply.text
        ENDPOINTS[path].model_validate(reply.json())
        if index == 0:
            assert plain(reply.json()) == plain(REPLIES[path])


@pytest.mark.parametrize(
    ("kind", "path"), [(ResponsesRequest, "/v1/responses"), (MessagesRequest, "/v1/messages")]
)
def test_the_closed_lists(token_server: Live, kind: type[ChatBody], path: str) -> None:
    fields = openapi_document()["components"]["schemas"][kind.__name__]["properties"]
    good = next(iter(BODIES[path].values()))
    for name, hint in kind.unsupported.hints.items():
        assert fields[name]["description"], name
        reply = token_server.http.post(path, json={**good, name: "something"})
        assert reply.status_code == 400
        message = reply.json()["error"]["message"]
        assert name in message and hint in message


@pytest.mark.parametrize("kind", [ResponsesRequest, MessagesRequest, CountRequest])
def test_what_changes_a_reply_of_the_chat_is_read_or_refused_elsewhere(
    kind: type[ChatBody],
) -> None:
    of_chat = {*ChatCompletionRequest.model_fields, *ChatCompletionRequest.unsupported.hints}
    changing = of_chat - {"reasoning_field", "store", "stream_options", "user"}
    if kind is CountRequest:  # what a prompt has nothing of
        changing -= {*MessagesRequest.model_fields} - {*CountRequest.model_fields}
    assert changing <= {*kind.model_fields, *kind.unsupported.hints, *WORDS}


@pytest.mark.parametrize("path", [CHAT, *ENDPOINTS])
def test_moderation_is_refused(token_server: Live, path: str) -> None:
    good = next(iter(BODIES[path].values()))
    wanted = {"model": "omni-moderation-latest", "policy": {"input": {"mode": "block"}}}
    reply = token_server.http.post(path, json={**good, "moderation": wanted})
    assert reply.status_code == 400 and "`moderation`" in reply.json()["error"]["message"]


@pytest.mark.parametrize("path", [CHAT, *ENDPOINTS])
def test_what_is_not_supported_may_be_off(token_server: Live, path: str) -> None:
    good = next(iter(BODIES[path].values()))
    for name, off in OFF.items():
        reply = token_server.http.post(path, json={**good, name: off})
        assert reply.status_code == 200, reply.text
    assert token_server.http.post(path, json={**good, **OFF}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/v1/messages/count_tokens"])
def test_models_keys_and_sizes_as_in_the_chat(token_server: Live, path: str) -> None:
    wanted = {"messages": user(), "input": "x", "max_tokens": 5}
    body = {name: wanted[name] for name in wanted if (name == "input") is ("responses" in path)}
    assert token_server.http.post(path, json={**body, "model": "nobody"}).status_code == 404
    assert token_server.http.post(path, content=b"[]").status_code == 400
    assert token_server.http.post(path, content=b" " * 5_000_000).status_code == 413
    assert token_server.http.get(path).status_code == 405
