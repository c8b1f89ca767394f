"""What a stream's chunks add up to: tool calls, and characters that were cut in two."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_client import (
    AnswerDelta,
    Clock,
    Done,
    Event,
    Extracot,
    ReasoningDelta,
    Solution,
    StreamFailedError,
    UnexpectedReplyError,
)
from extracot_client.streaming import StreamReader
from tests.clients.conftest import LiveServer
from tests.clients.fake_server import DONE


def reader() -> StreamReader:
    return StreamReader(
        clock=Clock(lambda: 0.0, lambda: 0.0),
        started=0.0,
        deadline_at=None,
        request_id=None,
        retries=0,
        base_url="http://h",
    )


def event(payload: dict[str, Any]) -> bytes:
    """One event whose text is ASCII, so that it can carry half a character."""
    return f"data: {json.dumps(payload)}\n\n".encode()


def delta(finish_reason: str | None = None, **fields: object) -> bytes:
    choice = {"index": 0, "delta": fields, "finish_reason": finish_reason}
    return event({"id": "c1", "model": "m", "choices": [choice]})


def read(*frames: bytes) -> tuple[Solution, list[Event]]:
    """The solution, and the events before :class:`Done`."""
    events = list(reader().feed(b"".join([*frames, DONE])))
    last = events.pop()
    assert isinstance(last, Done)
    return last.solution, events


def calls_of(*frames: bytes) -> object:
    solution, _ = read(*frames, delta("tool_calls"))
    return solution.raw["choices"][0]["message"].get("tool_calls")


def call(index: int | None, function: object, **fields: object) -> dict[str, object]:
    return {"index": index, "function": function} | fields


def test_tool_calls_are_put_together() -> None:
    f, g = {"name": "f", "arguments": ""}, {"name": "g", "arguments": "{}"}
    found = calls_of(
        delta(tool_calls=[call(1, g, id="b", type="function")]),
        delta(tool_calls=[call(0, f, id="a", type="function")]),
        delta(tool_calls=[call(0, {"arguments": '{"x":'})]),
        delta(tool_calls=[call(0, {"arguments": " 1}"}), call(1, None)]),
        delta(tool_calls=None),
    )
    assert found == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_a_custom_tools_free_text_is_kept() -> None:
    parts = [{"custom": {"name": "run", "input": "a ="}}, {"custom": {"input": " 1"}}]
    head = {"index": 0, "id": "a", "type": "custom"}
    found = calls_of(*(delta(tool_calls=[{**head, **part}]) for part in parts))
    assert found == [{"id": "a", "type": "custom", "custom": {"name": "run", "input": "a = 1"}}]


def test_tool_calls_without_an_index_keep_their_order() -> None:
    parts = [call(None, {"name": name, "arguments": "{}"}, id=name) for name in "fg"]
    found = calls_of(delta(tool_calls=parts))
    assert isinstance(found, list) and [one["id"] for one in found] == ["f", "g"]


def test_no_tool_calls_no_field() -> None:
    assert calls_of(delta(content="x")) is None


@pytest.mark.parametrize(
    "calls",
    [
        5,
        "f",
        {"index": 0},
        [None],
        ["f"],
        [{"index": "0"}],
        [{"index": 0, "id": 7}],
        [{"index": 0, "function": "f"}],
        [{"index": 0, "function": {"name": "f", "arguments": {}}}],
    ],
)
def test_tool_calls_of_another_shape(calls: object) -> None:
    with pytest.raises(UnexpectedReplyError, match="a chunk of another shape"):
        calls_of(delta(tool_calls=calls))


def test_tool_calls_are_those_of_an_unstreamed_reply(live: LiveServer) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    extra = {"tools": [tool], "tool_choice": "required"}
    with Extracot(live.url) as client:
        solution = client.solve("call f", extra=extra)
    body = {"messages": [{"role": "user", "content": "call f"}], **extra}
    whole = httpx.post(f"{live.url}/v1/chat/completions", json=body, trust_env=False).json()
    message, expected = (reply["choices"][0]["message"] for reply in (solution.raw, whole))
    assert solution.finish_reason == "tool_calls" and solution.answer == ""
    assert message["content"] == expected["content"]
    for calls in (message["tool_calls"], expected["tool_calls"]):
        assert calls and all(one.pop("id") for one in calls)
    assert message["tool_calls"] == expected["tool_calls"]


def test_a_character_cut_in_two_is_one() -> None:
    solution, events = read(
        delta(reasoning="\ud83d"),
        delta(reasoning="\ude00"),
        delta(content="hi \ud83d"),
        delta(content=""),
        delta("stop", content="\ude00 there"),
    )
    assert events == [ReasoningDelta("😀"), AnswerDelta("hi "), AnswerDelta("😀 there")]
    assert (solution.reasoning, solution.answer) == ("😀", "hi 😀 there")
    message = solution.raw["choices"][0]["message"]
    assert (message["reasoning"], message["content"]) == ("😀", "hi 😀 there")


def test_a_half_that_stays_alone_is_replaced() -> None:
    solution, events = read(
        delta(reasoning="a\ud83d"), delta(content="\ude00b\ud83d"), delta("stop")
    )
    assert (solution.reasoning, solution.answer) == ("a\ufffd", "\ufffdb\ufffd")
    shown = [(type(one), one.text) for one in events if not isinstance(one, Done)]
    assert "".join(text for kind, text in shown if kind is AnswerDelta) == solution.answer
    assert "".join(text for kind, text in shown if kind is ReasoningDelta) == solution.reasoning


def test_no_text_of_a_reply_holds_half_a_character() -> None:
    part = call(0, {"name": "f", "arguments": '"\ud83d'}, id="\ud83d")
    logprobs = {"content": [{"token": "\ud83d", "logprob": 0.0}]}
    choice = {"index": 0, "delta": {"tool_calls": [part]}, "logprobs": logprobs}
    solution, _ = read(
        event({"model": "m\ud83d", "choices": [choice], "budget": {"level": "\ud83d"}}),
        delta("\ude00", tool_calls=[call(0, {"arguments": '\ude00"'})]),
    )
    json.dumps([solution.raw, solution.to_dict()], ensure_ascii=False).encode("utf-8")
    message = solution.raw["choices"][0]["message"]
    assert message["tool_calls"][0]["function"]["arguments"] == '"😀"'


@given(st.text(), st.lists(st.integers(0, 200), max_size=8))
def test_texts_are_the_same_however_they_are_cut(text: str, cuts: list[int]) -> None:
    data = text.encode("utf-16-le")
    places = [0, *sorted(2 * (cut % (len(data) // 2 + 1)) for cut in cuts), len(data)]
    pieces = [data[a:b].decode("utf-16-le", "surrogatepass") for a, b in pairwise(places)]
    solution, events = read(*(delta(content=piece) for piece in pieces), delta("stop"))
    assert solution.answer == text
    assert "".join(one.text for one in events if isinstance(one, AnswerDelta)) == text


def test_what_had_come_of_a_broken_stream_holds_no_half() -> None:
    frames = delta(content="hi \ud83d") + event({"error": {"message": "gone \ud83d"}})
    with pytest.raises(StreamFailedError) as caught:
        list(reader().feed(frames))
    assert caught.value.partial_answer == "hi " and str(caught.value) == "gone \ufffd"
