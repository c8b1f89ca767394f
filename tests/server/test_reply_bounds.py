"""Bounds on a reply's length by other servers' names: none is dropped without a word."""

from __future__ import annotations

from typing import Any

import pytest

from extracot_server.api.body import LENGTHS
from tests.server.live import Live, user


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/v1/chat/completions", ["max_tokens", "max_completion_tokens"]),
        ("/v1/responses", ["max_output_tokens"]),
        ("/v1/messages", ["max_tokens"]),
    ],
)
def test_a_bound_on_the_length_is_never_dropped(
    token_server: Live, path: str, own: list[str]
) -> None:
    asked: dict[str, Any] = {"model": "scripted", own[0]: 900}
    asked |= {"input": "hi"} if path == "/v1/responses" else {"messages": user()}
    camel = ["maxTokens", "maxOutputTokens", "maxCompletionTokens", "maxNewTokens"]
    for name in (*LENGTHS, *camel):
        if name in own:
            continue
        refused = token_server.http.post(path, json={**asked, name: 50})
        message = refused.json()["error"]["message"]
        assert refused.status_code == 400, name
        start = f"`{name}` is not supported by this server; use `"
        assert message.startswith(start) and message[len(start) :].strip("`.") in own
    for name, value in (("n_predict", -1), ("max_new_tokens", None), ("maxTokens", None)):
        taken = token_server.http.post(path, json={**asked, name: value})
        assert taken.status_code == 200, "it bounds nothing"


def test_counting_tokens_takes_the_bound_of_the_request_it_counts(token_server: Live) -> None:
    asked = {"model": "scripted", "messages": user(), "max_tokens": 5}
    assert token_server.http.post("/v1/messages/count_tokens", json=asked).status_code == 200
