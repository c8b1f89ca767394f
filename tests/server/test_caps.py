"""Hard caps to the token, cap mode, and the room that is kept for the answer."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.live import Live, serve

ENDLESS = ScriptedBehaviour(never_close=True)
ENDLESS_TEXT_TAGS = ScriptedBehaviour(never_close=True, tags_as_text=True)
ANSWERED = "The answer is \\boxed{"


def ids_of(live: Live, text: str) -> int:
    """How many ids a text is."""
    return len(live.engine.tokenizer.encode(text))


@pytest.mark.parametrize("cap", [0, 1, 2, 12])
@pytest.mark.parametrize("n", [1, 3])
def test_a_hard_cap_is_exact(any_cap_server: Live, cap: int, n: int) -> None:
    live = any_cap_server
    reply = live.chat(budget={"ratio": 1, "max_reasoning_tokens": cap}, n=n, seed=4)
    for choice in reply["choices"]:
        report, message = choice["budget"], choice["message"]
        # Native reasoning is 40 tokens or more, so each cap is reached; a character of several
        # ids is never shown in part.
        assert cap - 2 <= report["reasoning_tokens"] <= cap
        assert report["max_reasoning_tokens"] == cap
        assert report["cap_hit"] is (cap > 0)
        assert report["closed_by"] == ("server" if cap else None)
        assert report["unclosed"] is False
        assert message["content"].startswith(ANSWERED)
        assert "think>" not in message["content"] + (message["reasoning"] or "")
        assert ids_of(live, message["reasoning"] or "") == report["reasoning_tokens"]
    used = sum(choice["budget"]["reasoning_tokens"] for choice in reply["choices"])
    assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] == used


@pytest.mark.parametrize("behaviour", [ENDLESS, ENDLESS_TEXT_TAGS], ids=["single-id", "text"])
def test_a_model_that_never_closes_is_closed(behaviour: ScriptedBehaviour) -> None:
    with serve(behaviour, card="none") as live:
        report = live.chat(budget={"max_reasoning_tokens": 30})["budget"]
        assert report["cap_hit"] and report["closed_by"] == "server"
        assert 28 <= report["reasoning_tokens"] <= 30
        native = live.chat(max_tokens=100)
        assert native["budget"]["cap_reason"] == "room"
        assert native["budget"]["cap_hit"] is True
        assert native["choices"][0]["message"]["content"].startswith(ANSWERED)
        assert native["choices"][0]["finish_reason"] == "stop"


def test_the_cap_counts_only_reasoning_where_the_model_opens_the_block(cap_server: Live) -> None:
    report = cap_server.chat(budget={"max_reasoning_tokens": 12})["budget"]
    assert report["reasoning_tokens"] in (10, 11, 12)
    assert (report["level"], report["enforcement"]) == ("native", "cap")


@pytest.mark.parametrize("kind", ["single-id", "text", "template"])
def test_a_reply_that_ends_inside_the_block_still_answers(kind: str) -> None:
    behaviour = ScriptedBehaviour(
        eos_in_reasoning=5, tags_as_text=kind == "text", template_opens_think=kind == "template"
    )
    with serve(behaviour, card="none") as live:
        for fields in ({"budget": 1}, {}, {"budget": {"max_reasoning_tokens": 5}}):
            reply = live.chat(**fields)
            report, choice = reply["budget"], reply["choices"][0]
            assert choice["message"]["content"].startswith(ANSWERED)
            assert 3 <= report["reasoning_tokens"] <= 5  # white space at the tag is not counted
            assert (report["closed_by"], report["cap_hit"]) == ("server", False)
            assert (report["unclosed"], choice["finish_reason"]) == (False, "stop")


@pytest.mark.parametrize("budget", [None, 0.2, 1, "none", "native", {"max_reasoning_tokens": 3}])
@pytest.mark.parametrize("room", [1, 2, 3, 4, 5, 6, 10, 30])
def test_content_is_never_empty_because_reasoning_ate_it(
    token_server: Live, cap_server: Live, budget: Any, room: int
) -> None:
    for live in (token_server, cap_server):
        for extra in ({"max_tokens": room}, {"max_completion_tokens": room, "max_tokens": 4000}):
            reply = live.chat(budget=budget, **extra)
            choice = reply["choices"][0]
            assert choice["message"]["content"], (budget, room)
            assert reply["usage"]["completion_tokens"] <= room
            assert choice["budget"]["reasoning_tokens"] <= max(0, room - (room + 1) // 2)
            if reply["usage"]["completion_tokens"] == room:
                assert choice["finish_reason"] in ("length", "stop")


@pytest.mark.parametrize("room", [7, 10, 30])
def test_room_with_tags_of_several_ids(text_tags_server: Live, room: int) -> None:
    for budget in (None, 1):
        reply = text_tags_server.chat(budget=budget, max_tokens=room)
        assert reply["choices"][0]["message"]["content"]
        assert reply["usage"]["completion_tokens"] <= room


def test_the_reserve_is_a_setting() -> None:
    with serve(ENDLESS, answer_reserve_tokens=4) as live:
        report = live.chat(budget=1, max_tokens=50)["budget"]
        assert (report["max_reasoning_tokens"], report["cap_reason"]) == (46, "room")
        assert report["cap_hit"] is True


def test_who_cut_is_said_also_where_two_bounds_are_close() -> None:
    """Tags and the level are of the room too, so a cap just below it may not be what ends it."""
    with serve(ENDLESS, answer_reserve_tokens=10, card="none") as live:
        for cap, reason in ((36, "client"), (40, "room"), (41, "room")):
            report = live.chat(budget={"max_reasoning_tokens": cap}, max_tokens=50)["budget"]
            assert report["cap_hit"] and report["reasoning_tokens"] <= 39
            assert report["cap_reason"] == reason, cap
        hits = {"model": "scripted", "budget": "native"}
        assert live.counted("extracot_budget_cap_hits_total", **hits, reason="client") == 1
        assert live.counted("extracot_budget_cap_hits_total", **hits, reason="room") == 2


def test_max_tokens_beyond_the_context_is_reported() -> None:
    with serve(ScriptedBehaviour(max_model_len=200)) as live:
        whole = live.chat(max_tokens=40)["budget"]
        assert whole["max_tokens"] == 40
        response = live.post(max_tokens=4000)
        reply = response.json()
        held = reply["budget"]["max_tokens"]
        assert held < 200 - reply["usage"]["prompt_tokens"]
        assert json.loads(response.headers["x-extracot-budget"])["max_tokens"] == held
        assert live.chat()["budget"]["max_tokens"] == held


def test_without_a_reserve_a_block_may_stay_open() -> None:
    """What is cut off then is all reasoning, says so, and saves nothing."""
    with serve(ENDLESS, answer_reserve_tokens=0) as live:
        choice = live.chat(budget=1, max_tokens=20)["choices"][0]
        report = choice["budget"]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "")
        assert (report["unclosed"], report["cap_hit"], report["closed_by"]) == (True, False, None)
        assert report["reasoning_tokens"] >= 18
        assert report["saved_tokens_estimate"] is None
        assert live.metric_sum("extracot_requests_total", outcome="length") == 1


def assert_too_long(message: str) -> None:
    """It begins in Anthropic's words, by which clients know it, and with numbers that are so."""
    found = re.match(r"prompt is too long: (\d+) tokens > (\d+) maximum\. This model's ", message)
    assert found and int(found[1]) > int(found[2]) > 0, message


def test_the_context_bounds_both() -> None:
    with serve(ScriptedBehaviour(never_close=True, max_model_len=120)) as live:
        reply = live.chat(budget=1)
        usage, report = reply["usage"], reply["budget"]
        assert usage["total_tokens"] + report["injected_tokens"] <= 120
        assert report["cap_reason"] == "room" and report["cap_hit"]
        assert reply["choices"][0]["message"]["content"].startswith(ANSWERED)
        longer = live.chat(budget=1, max_tokens=4000)
        assert longer["usage"]["completion_tokens"] == usage["completion_tokens"]
        error = live.refused(messages=[{"role": "user", "content": "apples " * 200}])
        assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
        assert "120" in error["message"]
        assert_too_long(error["message"])


def test_every_prompt_length_is_served_or_refused() -> None:
    """At the edge of the context nothing may reach the engine that it would refuse."""
    with serve(ScriptedBehaviour(never_close=True, max_model_len=90)) as live:
        statuses = []
        for words in range(30, 80):
            messages = [{"role": "user", "content": " apples" * words}]
            for budget in ("native", 0.2, "auto", "none"):
                response = live.post(messages=messages, budget=budget)
                statuses.append(response.status_code)
                if response.status_code == 200:
                    reply = response.json()
                    assert reply["choices"][0]["message"]["content"]
                    written = reply["budget"]["injected_tokens"]
                    assert reply["usage"]["total_tokens"] + written <= 90
                else:
                    error = response.json()["error"]
                    assert error["code"] == "context_length_exceeded"
                    assert_too_long(error["message"])
        assert set(statuses) == {200, 400}


def test_cap_mode_turns_a_ratio_into_a_cap(any_cap_server: Live) -> None:
    small = any_cap_server.chat(budget=0.2)["budget"]
    assert (small["level"], small["enforcement"], small["applied_ratio"]) == ("cap", "cap", 0.2)
    assert (small["max_reasoning_tokens"], small["cap_reason"]) == (20, "budget")
    assert small["cap_hit"] and 18 <= small["reasoning_tokens"] <= 25  # with its grace
    large = any_cap_server.chat(budget=0.8)["budget"]
    assert small["reasoning_tokens"] < large["reasoning_tokens"] <= 100
    assert small["expected_ratio"] is small["control_token"] is None
    assert small["calibrated"] is False


def test_hard_is_to_the_token(any_cap_server: Live) -> None:
    """Also where there is no ratio to enforce, and where there is room for the answer alone."""
    for budget, level, cap in (
        ({"ratio": 0.2, "enforce": "hard"}, "cap", 20),
        ({"max_reasoning_tokens": 7, "enforce": "hard"}, "native", 7),
        ({"ratio": "native", "max_reasoning_tokens": 7, "enforce": "hard"}, "native", 7),
        ({"ratio": "none", "enforce": "hard"}, "none", 0),
    ):
        report = any_cap_server.chat(budget=budget)["budget"]
        assert (report["level"], report["max_reasoning_tokens"]) == (level, cap)
        assert cap - 2 <= report["reasoning_tokens"] <= cap
        assert report["grace_tokens"] == 0
    tight = any_cap_server.chat(budget={"ratio": 0.5, "enforce": "hard"}, max_tokens=1)
    assert (tight["budget"]["level"], tight["usage"]["completion_tokens"]) == ("none", 1)
    assert tight["choices"][0]["message"]["content"]


def test_an_assumed_baseline_is_never_a_saving(cap_server: Live) -> None:
    before = cap_server.metric_sum("extracot_baseline_tokens_total")
    report = cap_server.chat(budget=0.2)["budget"]
    assert (report["baseline_source"], report["baseline_tokens"]) == ("assumed", 100.0)
    assert report["saved_tokens_estimate"] is None
    assert cap_server.metric_sum("extracot_baseline_tokens_total") == before == 0
    assert cap_server.metric_sum("extracot_tokens_saved_total") == 0


def test_a_cap_mode_model_may_not_reason_by_itself() -> None:
    """A ratio opens the block for it; native leaves it alone unless the operator says so."""
    quiet = ScriptedBehaviour(opens_think=False)
    with serve(quiet, card="none", assumed_reasoning_tokens=100) as live:
        assert live.chat()["budget"]["reasoning_tokens"] == 0
        assert live.chat(budget=0.2)["budget"]["reasoning_tokens"] > 0
    with serve(quiet, card="none", open_think=True) as live:
        assert live.chat()["budget"]["reasoning_tokens"] > 0
        assert live.chat(budget="none")["budget"]["reasoning_tokens"] == 0


def test_reasoning_never_leaves_a_capped_block(any_cap_server: Live) -> None:
    """What was cut off is not repeated in the answer."""
    for ratio in (0.05, 0.13, 0.37):
        message = any_cap_server.chat(budget=ratio)["choices"][0]["message"]
        assert message["content"].count("boxed") == 1
        assert message["content"].startswith(ANSWERED)
