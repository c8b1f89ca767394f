"""Anthropic's SDKs for Python and JavaScript beyond ``create()``: the tool runner and threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.real_clients.environments import Talk, environment
from tests.real_clients.recording import Recorded
from tests.real_clients.session import ASK, BUDGET, THEN, WORDS, check_prompts, check_turns

SYSTEM = "Answer in English."
MESSAGES = "/v1/messages"
BODY = {"budget": BUDGET}
SDKS = {"python": ("anthropic", "anthropic_sdk.py"), "js": ("anthropic-js", "anthropic_sdk.mjs")}


@pytest.fixture(scope="module", params=SDKS)
def client(request: pytest.FixtureRequest) -> Iterator[Talk]:
    name, script = SDKS[request.param]
    with environment(name).talking(script) as talk:
        yield talk


def play(client: Talk, server: Recorded, way: str, **words: Any) -> Any:
    own = {"system": SYSTEM, "stream": False, "body": BODY, "unsupported": None}
    return client(**{**WORDS, **own, **words}, url=server.url, way=way)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_tool_runner(client: Talk, server: Recorded, stream: bool) -> None:
    turns = play(client, server, "runner", stream=stream)
    check_turns(turns)
    check_prompts(server, system=(SYSTEM,))
    taken = [e for e in server.exchanges if e.status == 200]
    assert len(taken) == 3 and all(bool(e.body.get("stream")) == stream for e in taken)
    # It offers a thread first; told that there are none here, it sends everything itself.
    refused = [e for e in server.exchanges if e.status != 200]
    assert refused and all(e.status == 400 and "thread" in e.body for e in refused)
    assert not any("thread" in e.body for e in taken)
    for turn in turns:
        assert all(text.strip() for text in turn["reasoning"]) and turn["reasoning"]
        assert 0 < turn["usage"][1] < turn["usage"][0]
        assert stream or [r["level"] for r in turn["reports"]] == ["0.4"] * len(turn["reports"])


def test_the_tool_runner_without_reasoning(client: Talk, server: Recorded) -> None:
    turns = play(client, server, "runner", body={"thinking": {"type": "disabled"}})
    check_turns(turns)
    check_prompts(server, budget=False, system=(SYSTEM,))
    assert [turn["reasoning"] for turn in turns] == [[], []]


def test_a_thread_goes_on_without_one_where_that_is_allowed(client: Talk, server: Recorded) -> None:
    first, second = play(client, server, "thread", unsupported="continue_unthreaded")
    assert "boxed" in first["text"] and "boxed" in second["text"]
    one, both = server.prompts()
    assert ASK in one and THEN not in one
    assert both.index(ASK) < both.index("boxed{") < both.index(THEN)


def test_a_thread_that_must_be_one_is_an_error_of_its_own_kind(
    client: Talk, server: Recorded
) -> None:
    seen = play(client, server, "thread")
    assert seen == {"status": 400, "kind": "ThreadUnsupportedRequestError"}
    assert server.prompts() == []
