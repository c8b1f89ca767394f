"""The whole server in front of an OpenAI-compatible one: replies, caps, tools, what it promises."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from tests.server.engine.chat_fakes import FakeChat, chunk, event, in_front_of, usage_of
from tests.server.live import QUESTION, collect, user
from tests.server.test_tools import WEATHER

CAP = {"max_reasoning_tokens": 10}
BLIND = {"upstream_offers": {"kind": "plain"}}
CALLS = [
    {
        "index": 0,
        "id": "c1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": ""},
    },
    {"index": 0, "function": {"arguments": '{"city": '}},
    {"index": 0, "function": {"arguments": '"Oslo"}'}},
    {"index": 1, "id": "c2", "function": {"name": "get_weather", "arguments": "{}"}},
]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", None])
def test_a_reply_is_relayed_whole_and_streamed_alike(field: str | None) -> None:
    fake = FakeChat(field=field)
    with in_front_of(fake) as live:
        reply = live.chat()
        message, report = reply["choices"][0]["message"], reply["budget"]
        assert message["content"] == "The answer is 40."
        assert message["reasoning"].strip() == "".join(fake.reasoning).strip()
        assert reply["usage"]["completion_tokens"] == (45 if field else 47)
        assert (report["reasoning_tokens"], report["answer_tokens"]) == (40, 4)
        assert (report["exact"], report["calibrated"]) == (False, False)
        assert (report["enforcement"], report["closed_by"]) == ("none", "model")
        streamed = collect(live.chunks())
        assert streamed["message"] == message
        assert streamed["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("last", "cached"),
    [
        ({"usage": usage_of(9, 2, 0) | {"prompt_tokens_details": {"cached_tokens": 8}}}, 8),
        ({"usage": usage_of(9, 2, 0) | {"prompt_tokens_details": {"cached_tokens": 80}}}, 9),
        ({"usage": usage_of(9, 2, 0), "timings": {"prompt_n": 1, "cache_n": 8}}, 8),
        ({"timings": {"prompt_n": 1, "cache_n": 8, "predicted_n": 2}}, 8),
        ({"usage": usage_of(9, 2, 0) | {"prompt_tokens_details": {"cached_tokens": -1}}}, None),
        ({"usage": usage_of(9, 2, 0) | {"prompt_tokens_details": None}}, None),
        ({"usage": usage_of(9, 2, 0)}, None),
    ],
    ids=["told", "too many", "timings beside", "timings", "nonsense", "null", "absent"],
)
def test_tokens_of_its_prefix_cache_are_told(last: dict[str, Any], cached: int | None) -> None:
    said = [chunk({"content": "It is 4."}), chunk({}, finish="stop"), event(choices=[], **last)]
    with in_front_of(FakeChat(script=[*said, "data: [DONE]\n\n"])) as live:
        usage = live.chat()["usage"]
        assert usage["prompt_tokens"] == 9
        details = usage.get("prompt_tokens_details")
        assert details == (None if cached is None else {"cached_tokens": cached})


def test_those_of_a_request_that_was_cut_off_are_not_known() -> None:
    fake = FakeChat(cached=5)
    with in_front_of(fake) as live:
        assert live.chat()["usage"]["prompt_tokens_details"] == {"cached_tokens": 5}
        reply = live.chat(budget=CAP)
        assert reply["budget"]["cap_hit"] and len(fake.bodies) == 3
        assert "prompt_tokens_details" not in reply["usage"]


@pytest.mark.parametrize("counts", ["each", "end", "none"])
def test_a_cap_closes_the_stream_and_asks_for_the_answer(counts: str) -> None:
    fake = FakeChat(hold_after=12, counts=counts)
    with in_front_of(fake) as live:
        reply = live.chat(budget={**CAP, "closing": "Time is up."})
        report, message = reply["budget"], reply["choices"][0]["message"]
        assert report["cap_hit"] and report["max_reasoning_tokens"] == 10
        assert report["enforcement"] == "cap" and report["closed_by"] == "server"
        assert message["content"] == "The answer is 40."
        kept = message["reasoning"].removesuffix("\n\nTime is up.")
        assert kept != message["reasoning"]
        # Without a count a chunk may be more tokens than one: never fewer words than that allows.
        words = len(kept.split())
        assert words == 10 if counts == "each" else 5 <= words <= 10
        assert report["reasoning_tokens"] == 10 if counts == "each" else True
        first, second = fake.bodies
        thought = f"{kept.strip()}\n\nTime is up."
        begun = {"role": "assistant", "content": "", "reasoning_content": thought}
        assert second["messages"][-1] == begun
        assert second["continue_final_message"] == "content"
        assert first["messages"] == second["messages"][:-1] == user()
        assert second["max_tokens"] < first["max_tokens"]
        assert fake.closed == 1
        parts = ("reasoning_tokens", "answer_tokens", "overhead_tokens")
        told = reply["usage"]["completion_tokens"] + report["injected_tokens"]
        assert sum(report[part] for part in parts) == told


def test_a_server_may_go_on_with_tags_in_the_content() -> None:
    fake = FakeChat(owner="vllm", hold_after=12, counts="each")
    with in_front_of(fake) as live:
        assert live.chat(budget=CAP)["choices"][0]["message"]["content"] == "The answer is 40."
        content = "<think>\n" + "".join(fake.reasoning[:10]).strip() + "\n</think>\n\n"
        second = fake.bodies[1]
        assert second["messages"][-1] == {"role": "assistant", "content": content}
        assert second["continue_final_message"] is True
        assert fake.bodies[0]["stream_options"]["continuous_usage_stats"] is True


def test_an_answer_that_goes_on_is_no_reasoning_whatever_the_usage_says() -> None:
    fake = FakeChat(hold_after=12, counts="each", hidden=3)
    with in_front_of(fake) as live:
        report = live.chat(budget=CAP)["budget"]
        assert report["answer_tokens"] >= 4 and report["reasoning_tokens"] <= 10


def test_a_cap_that_cannot_be_kept_is_not_claimed() -> None:
    fake = FakeChat()
    with in_front_of(fake, **BLIND) as live:
        reply = live.chat(budget=CAP)
        report = reply["budget"]
        assert report["reasoning_tokens"] == 40 and not report["cap_hit"]
        assert (report["enforcement"], report["max_reasoning_tokens"]) == ("none", None)
        assert len(fake.bodies) == 1


def test_a_soft_ratio_ends_with_its_sentence() -> None:
    said = [" one"] * 10 + [" two."] + [" three"] * 20
    fake = FakeChat(reasoning=said, counts="each")
    with in_front_of(fake, assumed_reasoning_tokens=20, grace_tokens=8) as live:
        report = live.chat(budget=0.5)["budget"]
        assert (report["reasoning_tokens"], report["grace_tokens"]) == (11, 1)


@pytest.mark.parametrize(
    ("offers", "budget", "told", "enforcement"),
    [
        ({"kind": "openai"}, {"reasoning_effort": "low"}, {"reasoning_effort": "low"}, "effort"),
        ({"kind": "openai"}, {"budget": 0.6}, {"reasoning_effort": "medium"}, "effort"),
        (
            {"kind": "plain", "budget": "thinking.max"},
            {"budget": CAP},
            {"thinking": {"max": 10}},
            "effort",
        ),
        (
            {"kind": "llama.cpp", "budget": "thinking_budget"},
            {"budget": CAP},
            {"thinking_budget": 10},
            "effort+cap",
        ),
        ({"kind": "openai"}, {}, {}, "none"),
    ],
    ids=["effort", "ratio", "number", "number and cap", "nothing asked"],
)
def test_a_budget_goes_by_what_the_server_offers(
    offers: dict[str, Any], budget: dict[str, Any], told: dict[str, Any], enforcement: str
) -> None:
    fake = FakeChat(reasoning=[" a", " b"])
    with in_front_of(fake, upstream_offers=offers) as live:
        report = live.chat(**budget)["budget"]
        assert report["enforcement"] == enforcement
        body = fake.bodies[0]
        known = {"messages", "model", "stream", "stream_options", "timings_per_token"}
        known |= {"max_tokens", "max_completion_tokens"}
        assert {name: value for name, value in body.items() if name not in known} == told


def test_words_tell_a_cap_and_promise_nothing() -> None:
    offers = {"kind": "plain", "words": "Think in at most {tokens} tokens."}
    fake = FakeChat(reasoning=[" a"])
    with in_front_of(fake, upstream_offers=offers) as live:
        assert live.chat(budget=CAP)["budget"]["enforcement"] == "none"
        live.chat()
        said = [body["messages"][-1]["content"] for body in fake.bodies]
        assert said == [f"{QUESTION}\n\nThink in at most 10 tokens.", QUESTION]


def test_no_reasoning_is_asked_for_where_it_can_be() -> None:
    fake = FakeChat()
    with in_front_of(fake) as live:
        report = live.chat(budget="none")["budget"]
        assert report["reasoning_tokens"] == 0
        assert fake.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_server_without_that_goes_on_from_an_empty_block() -> None:
    fake = FakeChat()
    offers = {"kind": "plain", "continues": {"prefix": True}}
    with in_front_of(fake, upstream_offers=offers) as live:
        assert live.chat(budget="none")["budget"]["reasoning_tokens"] == 0
        body = fake.bodies[0]
        assert body["prefix"] is True
        assert body["messages"][-1]["content"] == "<think>\n\n</think>\n\n"


def test_reasoning_that_nobody_asked_for_is_cut_off_where_it_begins() -> None:
    fake = FakeChat(heeds=False, hold_after=2)
    with in_front_of(fake) as live:
        reply = live.chat(budget={"ratio": "none", "closing": "Time is up."})
        message, report = reply["choices"][0]["message"], reply["budget"]
        assert message["reasoning"] is None and message["content"] == "The answer is 40."
        assert report["reasoning_tokens"] == 0 and report["cap_hit"]
        begun = {"role": "assistant", "content": "<think>\n\n</think>\n\n"}
        assert fake.bodies[1]["messages"][-1] == begun


def test_hidden_reasoning_is_counted_and_nothing_is_claimed_of_it() -> None:
    fake = FakeChat(reasoning=[], hidden=30)
    with in_front_of(fake) as live:
        reply = live.chat(budget=CAP)
        report = reply["budget"]
        assert report["reasoning_tokens"] == 30 and report["enforcement"] == "none"
        details = reply["usage"]["completion_tokens_details"]
        assert details["reasoning_tokens"] == 30


def test_chunks_of_many_tokens_are_counted_by_what_replies_have_shown() -> None:
    fake = FakeChat(bundle=5)
    with in_front_of(fake) as live:
        reply = live.chat()
        assert reply["usage"]["completion_tokens"] == 45
        report = live.chat(budget={"max_reasoning_tokens": 20})["budget"]
        kept = fake.bodies[-1]["messages"][-1]["reasoning_content"]
        assert report["cap_hit"] and 10 <= len(kept.split()) <= 20


def test_calls_are_passed_through_whole_and_streamed() -> None:
    fake = FakeChat(reasoning=[" look"], calls=CALLS)
    tools = [WEATHER]
    with in_front_of(fake) as live:
        reply = live.chat(tools=tools, tool_choice="required", parallel_tool_calls=False)
        choice = reply["choices"][0]
        assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
        one, two = choice["message"]["tool_calls"]
        assert one["id"] == "c1" and one["function"]["arguments"] == '{"city": "Oslo"}'
        assert two["id"] == "c2"
        body = fake.bodies[0]
        assert body["tools"] == tools and body["tool_choice"] == "required"
        assert body["parallel_tool_calls"] is False and "response_format" not in body
        choices = [choice for chunk in live.chunks(tools=tools) for choice in chunk["choices"]]
        parts = [call for c in choices for call in c["delta"].get("tool_calls", ())]
        assert [part.get("id") for part in parts] == ["c1", None, None, "c2"]
        answered = [
            *user(),
            {"role": "assistant", "content": None, "tool_calls": [one]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        ]
        live.chat(messages=answered, tools=tools)
        sent = fake.bodies[-1]["messages"]
        assert sent[1]["tool_calls"][0]["function"] == one["function"]
        assert sent[2] == {"role": "tool", "tool_call_id": "c1", "content": "rain"}


def test_earlier_reasoning_goes_where_the_server_reads_it() -> None:
    fake = FakeChat(reasoning=[])
    said = {"role": "assistant", "content": "40", "reasoning_content": "I know."}
    with in_front_of(fake) as live:
        live.chat(messages=[*user(), said, *user("Sure?")])
        assert fake.bodies[0]["messages"][1] == said
    other = FakeChat(reasoning=[])
    with in_front_of(other, **BLIND) as live:
        live.chat(messages=[*user(), said, *user("Sure?")])
        assert other.bodies[0]["messages"][1] == {"role": "assistant", "content": "40"}


def test_messages_and_responses_are_served_in_front_of_it() -> None:
    fake = FakeChat(counts="each")
    with in_front_of(fake) as live:
        with anthropic.Anthropic(base_url=live.url, api_key="none", max_retries=0) as client:
            message = client.messages.create(
                model="thinker",
                max_tokens=2000,
                messages=user(),  # type: ignore[arg-type]
                thinking={"type": "enabled", "budget_tokens": 1024},
            )
        kinds = [block.type for block in message.content]
        assert kinds == ["thinking", "text"] and message.usage.output_tokens == 45
        with live.openai() as asking:
            response = asking.responses.create(model="thinker", input=QUESTION)
            assert response.output_text == "The answer is 40."
            stream = asking.responses.create(model="thinker", input=QUESTION, stream=True)
            events = [event.type for event in stream]
            assert "response.output_text.delta" in events
            assert any("reasoning" in event for event in events)
            assert events[-1] == "response.completed"


def test_a_nought_is_a_value_and_what_is_not_given_is_not_sent() -> None:
    fake = FakeChat(reasoning=[" a"])
    noughts = {"temperature": 0, "seed": 0, "top_k": 0, "min_p": 0}
    with in_front_of(fake) as live:
        live.chat(**noughts)
        live.chat()
        sent, plain = fake.bodies
        assert {name: sent.get(name) for name in noughts} == noughts
        others = {"top_p", "ignore_eos", "logit_bias", "presence_penalty", "frequency_penalty"}
        assert not others & set(sent) and not {*others, *noughts} & set(plain)


def test_a_stop_string_ends_the_answer_and_no_reasoning() -> None:
    fake = FakeChat(answer=["a", " b", " word01", " c"])
    with in_front_of(fake) as live:
        reply = live.chat(stop=["word01"])
        assert reply["choices"][0]["message"]["content"] == "a b "
        assert "word01" in reply["choices"][0]["message"]["reasoning"]
        assert "stop" not in fake.bodies[0]


def test_choices_are_requests_of_their_own() -> None:
    fake = FakeChat(reasoning=[" a"])
    with in_front_of(fake) as live:
        reply = live.chat(n=2, seed=7)
        assert [choice["index"] for choice in reply["choices"]] == [0, 1]
        assert sorted(body["seed"] for body in fake.bodies) == [7, 8]
        assert reply["usage"]["completion_tokens"] == 2 * 6
        words = len(QUESTION.split()) + 3
        assert reply["usage"]["prompt_tokens"] == words


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"logprobs": True}, "logprobs"),
    ({"min_tokens": 3}, "min_tokens"),
    ({"top_k": 3}, "top_k"),
    ({"ignore_eos": True}, "ignore_eos"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"chat_template_kwargs": {"a": 1}}, "chat_template_kwargs.a"),
    ({"budget": "auto"}, "budget"),
    ({"budget": {"ratio": 0.2, "enforce": "hard"}}, "budget.enforce"),
    ({"budget": "none"}, "budget"),
]


def test_what_the_server_cannot_do_is_refused_by_name() -> None:
    fake = FakeChat()
    with in_front_of(fake, **BLIND) as live:
        for fields, param in REFUSED:
            response = live.post(**fields)
            assert response.status_code == 400, fields
            assert response.json()["error"]["param"] == param
        assert not fake.bodies


def test_tokens_of_a_text_are_nobodys_to_tell() -> None:
    with in_front_of(FakeChat()) as live:
        for body in ({"prompt": "x"}, {"messages": user()}):
            response = live.http.post("/v1/tokenize", json=body)
            assert response.status_code == 400
            assert response.json()["error"]["code"] == "unsupported_parameter"


def test_a_format_is_the_servers_and_an_answer_that_breaks_it_is_an_error() -> None:
    fake = FakeChat(reasoning=[" hm"], answer=['{"a"', ": 1}"])
    with in_front_of(fake) as live:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
        reply = live.chat(response_format=form)
        assert reply["choices"][0]["message"]["content"] == '{"a": 1}'
        assert fake.bodies[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}
        fake.answer = ["no"]
        assert live.post(response_format=form).status_code == 500
