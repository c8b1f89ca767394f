"""Replies of OpenAI-compatible servers as odd as they come: ends, refusals, failovers, formats."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import anthropic
import httpx
import pytest

from tests.server.engine.chat_fakes import FakeChat, chunk, event, in_front_of, usage_of
from tests.server.live import QUESTION, Live, collect, user

ROLE = chunk({"role": "assistant", "content": ""})
DONE = "data: [DONE]\n\n"
FORMAT = {"type": "json_object"}


def said(*texts: str, finish: str | None = None) -> list[str]:
    return [chunk({"content": text}, finish=finish) for text in texts]


def script(*events: str, finish: str = "stop", end: str = DONE) -> list[str]:
    """A reply of these events, its usage and its end."""
    return [
        ROLE,
        *events,
        chunk({}, finish=finish),
        event(choices=[], usage=usage_of(9, 6, 0)),
        end,
    ]


def content(live: Live, **fields: Any) -> str | None:
    found: str | None = live.chat(**fields)["choices"][0]["message"]["content"]
    return found


def error(response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()["error"]
    return found


def test_an_end_that_is_none_does_not_end_a_reply() -> None:
    fake = FakeChat()
    with in_front_of(fake) as live:
        for reason in ("", "null", "None"):
            fake.script = script(*said("Hello ", "world", finish=reason))
            assert content(live) == "Hello world", reason
            assert collect(live.chunks())["message"]["content"] == "Hello world"


def test_other_words_for_an_end_are_understood() -> None:
    words = {"length": "length", "model_length": "length", "MAX_TOKENS": "length"}
    words |= {"eos": "stop", "function_call": "stop", "SAFETY": "content_filter"}
    words |= {"content_filter: RECITATION": "content_filter"}
    fake = FakeChat()
    with in_front_of(fake) as live:
        for reason, told in words.items():
            fake.script = script(*said("a"), finish=reason)
            assert live.chat()["choices"][0]["finish_reason"] == told, reason


def test_a_reply_that_its_server_gave_up_is_lost() -> None:
    fake = FakeChat()
    with in_front_of(fake) as live:
        for reason in ("abort", "error", "insufficient_system_resource"):
            fake.script = script(*said("Hel"), finish=reason)
            lost = live.post()
            assert (lost.status_code, error(lost)["code"]) == (500, "reply_lost"), reason
            assert '"code":"reply_lost"' in live.post(stream=True).text


def test_a_filter_of_the_server_is_told_in_every_api() -> None:
    fake = FakeChat(script=script(*said("Hel"), finish="content_filter"))
    with in_front_of(fake) as live:
        choice = live.chat(response_format=FORMAT)["choices"][0]
        assert choice["finish_reason"] == "content_filter"
        assert choice["message"]["content"] == "Hel"
        assert choice["budget"]["no_saving"] is not None
        assert collect(live.chunks())["finish_reason"] == "content_filter"
        with live.openai() as client:
            response = client.responses.create(model="thinker", input=QUESTION)
            assert response.status == "incomplete" and response.incomplete_details is not None
            assert response.incomplete_details.reason == "content_filter"
            assert response.output[-1].status == "incomplete"  # type: ignore[union-attr]
            events = list(client.responses.create(model="thinker", input=QUESTION, stream=True))
            assert events[-1].type == "response.incomplete"
        message = live.http.post("/v1/messages", json=anthropics()).json()
        assert message["stop_reason"] == "refusal"


def anthropics() -> dict[str, Any]:
    return {"model": "thinker", "max_tokens": 2000, "messages": user()}


def test_a_refusal_is_no_answer_and_is_told_in_every_api() -> None:
    parts = [chunk({"refusal": text}) for text in ("I cannot ", "do that.")]
    refusal = "I cannot do that."
    with in_front_of(FakeChat(script=script(*parts))) as live:
        for form in (None, FORMAT):
            reply = live.chat(response_format=form)
            message = reply["choices"][0]["message"]
            assert (message["content"], message["refusal"]) == (None, refusal)
            assert reply["budget"]["answer_tokens"] > 0
        streamed = [choice["delta"] for c in live.chunks() for choice in c["choices"]]
        assert "".join(delta.get("refusal", "") for delta in streamed) == refusal
        assert not any(delta.get("content") for delta in streamed)
        with live.openai() as client:
            item = client.responses.create(model="thinker", input=QUESTION).output[-1]
            assert item.type == "message" and item.content[0].type == "refusal"
            assert item.content[0].refusal == refusal
            events = list(client.responses.create(model="thinker", input=QUESTION, stream=True))
            deltas = [e.delta for e in events if e.type == "response.refusal.delta"]
            assert "".join(deltas) == refusal
            (done,) = [e for e in events if e.type == "response.refusal.done"]
            assert done.refusal == refusal
            again = [*({"role": "user", "content": QUESTION}, item.model_dump()), *user("Why?")]
            client.responses.create(model="thinker", input=again)  # type: ignore[arg-type]
        with anthropic.Anthropic(base_url=live.url, api_key="none", max_retries=0) as asking:
            told = asking.messages.create(**anthropics())
        assert [(block.type, block.text) for block in told.content] == [("text", refusal)]  # type: ignore[union-attr]


def test_a_refusal_behind_an_answer_is_a_message_of_its_own() -> None:
    parts = [*said("Well. "), chunk({"refusal": "No."})]
    with in_front_of(FakeChat(script=script(*parts))) as live:
        message = live.chat()["choices"][0]["message"]
        assert (message["content"], message["refusal"]) == ("Well. ", "No.")
        with live.openai() as client:
            output = client.responses.create(model="thinker", input=QUESTION).output
        kinds = [item.content[0].type for item in output if item.type == "message"]
        assert kinds == ["output_text", "refusal"]


@pytest.mark.parametrize(
    "first",
    [
        [event(error={"message": "out of memory", "code": 500})],
        [event(error="no GPU")],
        [ROLE, chunk({}, finish="abort")],
        [ROLE],
        [ROLE, event(choices=[], usage=usage_of(9, 0, 0)), event(error={"message": "no"})],
    ],
    ids=["error", "text", "abort", "end", "behind usage"],
)
def test_another_server_is_tried_until_something_has_come(first: list[str]) -> None:
    bad, good = FakeChat(script=first), FakeChat()
    with in_front_of(bad, good) as live:
        for _ in range(2):
            assert content(live) == "The answer is 40."
        assert len(bad.bodies) >= 1 and len(good.bodies) == 2


def test_what_a_server_refuses_in_its_stream_is_the_clients() -> None:
    refusal = event(error={"message": "top_p is too large", "code": 400})
    fakes = [FakeChat(script=[ROLE, refusal]) for _ in range(2)]
    with in_front_of(*fakes) as live:
        response = live.post(stream=True)
        assert response.status_code == 400
        assert error(response)["message"] == "top_p is too large"
        assert sum(len(fake.bodies) for fake in fakes) == 1


@pytest.mark.parametrize("code", [401, 403, 404, 503, "503"])
def test_an_error_in_a_stream_takes_no_server_away(code: Any) -> None:
    fake = FakeChat(script=[ROLE, *said("Hel"), event(error={"message": "no", "code": code})])
    with in_front_of(fake, health_interval_seconds=60) as live:
        lost = live.post()
        assert (lost.status_code, error(lost)["code"]) == (500, "reply_lost")
        assert '"code":"reply_lost"' in live.post(stream=True).text
        assert [state.down for state in live.engine.upstreams()] == [None]
        fake.script = None
        assert content(live) == "The answer is 40."


def test_a_stream_that_begins_with_a_busy_server_says_when_to_come_back() -> None:
    fake = FakeChat(script=[ROLE, event(error={"message": "no provider is free", "code": 503})])
    with in_front_of(fake, health_interval_seconds=60) as live:
        busy = live.post(stream=True)
        assert (busy.status_code, error(busy)["code"]) == (503, "engine_busy")
        assert busy.headers["retry-after"] == "1"


LATE = [
    event(choices=None, usage=usage_of(9, 6, 0)),
    event(choices=[None], usage="none"),
    event(choices=[], usage=[1], timings="x"),
    event(choices=[{"index": 0, "delta": None, "finish_reason": "stop"}]),
    event(choices=[{"index": 0, "delta": {"tool_calls": [{"function": None}, None]}}]),
    event(error={"message": "too late", "code": 500}),
    "data: {\n\n",
]


def test_what_follows_the_end_takes_nothing_away() -> None:
    fake = FakeChat()
    with in_front_of(fake) as live:
        for late in LATE:
            fake.script = [ROLE, *said("Hello"), chunk({}, finish="stop"), late, DONE]
            assert content(live) == "Hello", late


def test_odd_parts_on_the_way_say_nothing() -> None:
    odd = [
        event(choices=None),
        event(choices=[{"index": 0, "delta": None}], error=None),
        event(choices=[{"delta": {"content": "wor", "tool_calls": [{"function": None}]}}]),
        event(choices=[{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]),
        event(
            choices=[{"index": 1, "delta": {"content": "no"}}, json.loads(ROLE[6:])["choices"][0]]
        ),
    ]
    with in_front_of(FakeChat(script=script(*said("Hello "), *odd, *said("ld")))) as live:
        assert content(live) == "Hello world"


def test_a_content_in_parts_is_reasoning_and_answer() -> None:
    thought: list[Any] = [{"type": "text", "text": "Hm, "}, {"type": "text", "text": "so"}, None, 3]
    parts: list[Any] = [
        [{"type": "thinking", "thinking": thought}],
        [{"type": "thinking", "thinking": " it is."}, None, 7, {"type": "reference", "ids": [1]}],
        [{"type": "text", "text": "It"}, {"type": "text", "text": None}],
        " is 40.",
        [],
    ]
    told = script(*(chunk({"content": part}) for part in parts))
    with in_front_of(FakeChat(script=told)) as live:
        for message in (live.chat()["choices"][0]["message"], collect(live.chunks())["message"]):
            assert (message["reasoning"], message["content"]) == ("Hm, so it is.", "It is 40.")


def test_a_stream_without_a_last_line_end_is_whole() -> None:
    whole = [ROLE, *said("Hello"), chunk({}, finish="stop").rstrip("\n")]
    with in_front_of(FakeChat(script=whole)) as live:
        assert content(live) == "Hello"


def test_a_connection_that_breaks_behind_the_end_takes_nothing_away() -> None:
    fake = FakeChat(script=[ROLE, *said("Hello"), chunk({}, finish="stop")], script_breaks=True)
    with in_front_of(fake) as live:
        assert content(live) == "Hello"


USAGES: list[dict[str, Any]] = [
    {"prompt_tokens": 0, "completion_tokens": 0},
    {"prompt_tokens": -3, "completion_tokens": -5},
    {"prompt_tokens": 10**30, "completion_tokens": 2**63},
    {"completion_tokens": 2.5, "completion_tokens_details": {"reasoning_tokens": -1}},
    {"completion_tokens_details": 3},
    {},
]


def test_usage_that_cannot_be_is_unknown() -> None:
    texts = [{"reasoning_content": "a "}, {"content": "b "}, {"content": "c "}]
    fake = FakeChat()
    with in_front_of(fake) as live:
        for usage, each in product(USAGES, (None, True)):
            chunks = [chunk(text, usage=each and usage) for text in texts]
            end = [chunk({}, finish="stop"), event(choices=[], usage=usage), DONE]
            fake.script = [ROLE, *chunks, *end]
            reply = live.chat()
            counted, report = reply["usage"], reply["budget"]
            assert counted["completion_tokens"] == 3 and counted["prompt_tokens"] > 1, usage
            assert (report["reasoning_tokens"], report["answer_tokens"]) == (1, 2), usage


def test_a_format_that_the_server_did_not_hold_to_is_its_failure() -> None:
    fake = FakeChat(reasoning=[" hm"], answer=["no"])
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    with in_front_of(fake) as live:
        for form in (FORMAT, schema):
            found = live.post(response_format=form)
            assert (found.status_code, error(found)["code"]) == (500, "reply_lost")
            assert error(found)["param"] == "response_format"
            assert "the server behind this model did not hold" in error(found)["message"]
        asked = {"model": "thinker", "input": QUESTION, "text": {"format": FORMAT}}
        assert error(live.http.post("/v1/responses", json=asked))["param"] == "text.format"
        fake.answer = ["{}"]
        assert content(live, response_format=FORMAT) == "{}"
