"""How a block is cut off: what is written into it, where a sentence may end, what goes on after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from extracot_server.config.setting_values import SettingsError
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from extracot_server.engine.scripted.tokenizer import ScriptedTokenizer
from tests.server.live import Live, collect, serve, user

CLOSING = "I have to answer now, with what I have so far."
OPERATORS = "Time to answer."
ANSWERED = "The answer is \\boxed{"
ENCODE = ScriptedTokenizer().encode
CAP = {"max_reasoning_tokens": 12}


def shown(closing: str) -> str:
    """What a reader sees of a closing."""
    return f"\n\n{closing}"


def adds_up(reply: dict[str, Any]) -> bool:
    """Every token of a reply is of one part."""
    report = reply["budget"]
    parts = sum(report[f"{part}_tokens"] for part in ("reasoning", "answer", "overhead"))
    return bool(parts == reply["usage"]["completion_tokens"] + report["injected_tokens"])


# What is written


@pytest.mark.parametrize("n", [1, 3])
def test_a_block_that_is_cut_off_ends_with_the_closing(any_cap_server: Live, n: int) -> None:
    live = any_cap_server
    bare = live.chat(budget=CAP, n=n, seed=4)
    reply = live.chat(budget={**CAP, "closing": CLOSING}, n=n, seed=4)
    encode = live.engine.tokenizer.encode
    written = encode(shown(CLOSING))
    for plain, choice in zip(bare["choices"], reply["choices"], strict=True):
        before, report, message = plain["budget"], choice["budget"], choice["message"]
        assert (before["closing_tokens"], report["closing_tokens"]) == (0, len(written))
        assert report["reasoning_tokens"] == before["reasoning_tokens"] <= 12
        assert report["overhead_tokens"] == before["overhead_tokens"] + len(written)
        assert report["injected_tokens"] == before["injected_tokens"] + len(written)
        assert message["reasoning"] == plain["message"]["reasoning"] + shown(CLOSING)
        assert message["content"].startswith(ANSWERED)
    assert reply["budget"]["closing_tokens"] == n * len(written)
    assert adds_up(bare) and adds_up(reply)
    context = live.engine.tokenizer.decode(list(live.engine.requests[-1].token_ids))
    assert context.endswith(f"{shown(CLOSING)}\n</think>\n\n")


def test_whose_closing_it_is() -> None:
    """The request's, else the operator's; an empty one is the end tag alone."""
    with serve(card="none", closing=f"  {OPERATORS}\n") as live:
        for budget, closing in (
            (CAP, OPERATORS),
            ({**CAP, "closing": None}, OPERATORS),
            ({**CAP, "closing": f"{CLOSING} "}, CLOSING),
        ):
            reasoning = live.chat(budget=budget)["choices"][0]["message"]["reasoning"]
            assert reasoning.endswith(shown(closing))
        for nothing in ("", " \n"):
            reply = live.chat(budget={**CAP, "closing": nothing})
            assert reply["budget"]["closing_tokens"] == 0
            assert OPERATORS not in reply["choices"][0]["message"]["reasoning"]
        said = live.http.get("/v1/budget").json()["cutting_off"]
        assert said == {"closing": OPERATORS, "grace_tokens": 32, "loop_tokens": 512}
        room = live.chat(max_tokens=20)
        assert room["budget"]["cap_reason"] == "room"
        assert room["choices"][0]["message"]["reasoning"].endswith(shown(OPERATORS))
        hidden = live.chat(budget=CAP, include_reasoning=False)
        assert OPERATORS not in json.dumps(hidden["choices"])


OWN = """
name: mine
source: this test
tags: {{start: "<think>", end: "</think>"}}
closing: {closing!r}
ends_reasoning: ["<tool_call>"]
"""


def test_a_models_profile_has_one_for_cap_mode(tmp_path: Path) -> None:
    """It is not for a model with a card, which has learnt how its blocks end."""
    path = tmp_path / "mine.yaml"
    path.write_text(OWN.format(closing="That was the budget."), encoding="utf-8")
    own = {"profiles": path, "profile": "mine"}
    for more, closing in (
        ({"card": "none"}, "That was the budget."),
        ({"card": "none", "closing": OPERATORS}, OPERATORS),
        ({"card": "none", "closing": ""}, ""),
        ({}, ""),
    ):
        with serve(**own, **more) as live:
            reply = live.chat(budget=CAP)
            assert reply["budget"]["closing_tokens"] == len(ENCODE(shown(closing))) * bool(closing)
            assert reply["choices"][0]["message"]["reasoning"].endswith(closing)
            error = live.refused(budget={**CAP, "closing": "A <tool_call> then."})
            assert error["param"] == "budget.closing"


@pytest.mark.parametrize("closing", ["Zq" * 100, "Now.<|im_end|>"])
def test_a_profiles_closing_that_does_not_fit_ends_the_start(closing: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(OWN.format(closing=closing), encoding="utf-8")
    with (
        pytest.raises(SettingsError, match=r"mine.* closing "),
        serve(card="none", profiles=path, profile="mine"),
    ):
        pass


def test_a_closing_alone_is_a_budget_of_the_default(cap_server: Live) -> None:
    report = cap_server.chat(budget={"closing": CLOSING})["budget"]
    assert (report["level"], report["source"], report["closing_tokens"]) == ("native", "budget", 0)
    by_alias = cap_server.chat(model="scripted@0.2", budget={"closing": CLOSING, "grace": 0})
    assert by_alias["budget"]["applied_ratio"] == 0.2
    assert by_alias["budget"]["closing_tokens"] > 0


def test_only_what_is_cut_off_is_closed_by_it(cap_server: Live) -> None:
    """Not what the model ends itself, by the tag or by ending its text, and not an empty block."""
    for budget in ("none", {"max_reasoning_tokens": 500}):
        asked = {"ratio": budget} if isinstance(budget, str) else budget
        report = cap_server.chat(budget={**asked, "closing": CLOSING})["budget"]
        assert (report["closing_tokens"], report["cap_hit"]) == (0, False)
    with serve(ScriptedBehaviour(eos_in_reasoning=5), card="none", closing=OPERATORS) as live:
        reply = live.chat(budget=1.0)
        assert (reply["budget"]["closed_by"], reply["budget"]["closing_tokens"]) == ("server", 0)
        assert OPERATORS not in reply["choices"][0]["message"]["reasoning"]


def test_streams_have_it_as_whole_replies_do(any_cap_server: Live) -> None:
    fields: dict[str, Any] = {"budget": {"ratio": 0.2, "closing": CLOSING, "grace": 20}, "seed": 3}
    for more in ({}, {"n": 2}, {"logprobs": True, "top_logprobs": 2}):
        whole = any_cap_server.chat(**fields, **more)
        chunks = any_cap_server.chunks(**fields, **more)
        for choice in whole["choices"]:
            streamed = collect(chunks, choice["index"])
            assert streamed["message"] == choice["message"]
            assert streamed["budget"] == choice["budget"]
            if choice["logprobs"]:
                content = b"".join(bytes(t["bytes"]) for t in choice["logprobs"]["content"])
                assert content.decode() == choice["message"]["content"]
                assert streamed["logprobs"] == choice["logprobs"]


def test_the_other_apis_have_it_as_reasoning(cap_server: Live) -> None:
    body = {"input": "What is 2 + 2?", "budget": {**CAP, "closing": CLOSING}}
    reply = cap_server.http.post("/v1/responses", json=body).json()
    assert shown(CLOSING) in json.dumps(reply["output"][0], ensure_ascii=False).replace("\\n", "\n")
    asked = {"messages": user(), "max_tokens": 500, "budget": {**CAP, "closing": CLOSING}}
    message = cap_server.http.post("/v1/messages", json=asked).json()
    assert message["content"][0]["thinking"].endswith(shown(CLOSING))


def test_it_is_no_part_of_the_answer(cap_server: Live) -> None:
    """A stop string in it stops nothing, and an answer's format binds the answer alone."""
    budget = {**CAP, "closing": CLOSING}
    reply = cap_server.chat(budget=budget, stop=["answer now", "far"])
    assert reply["choices"][0]["message"]["content"].startswith(ANSWERED)
    formed = cap_server.chat(budget=budget, response_format={"type": "json_object"})
    assert json.loads(formed["choices"][0]["message"]["content"])
    assert formed["budget"]["closing_tokens"] > 0
    assert formed["budget"]["escaped"] is None


def test_a_trained_level_that_is_cut_off(token_server: Live) -> None:
    """With `auto` as well, whose level is known only after its first token."""
    for ratio in (0.6, "auto"):
        reply = token_server.chat(budget={"ratio": ratio, **CAP, "closing": CLOSING})
        assert reply["budget"]["enforcement"] == "token+cap"
        assert reply["choices"][0]["message"]["reasoning"].endswith(shown(CLOSING))
        assert (reply["budget"]["grace_tokens"], adds_up(reply)) == (0, True)


def test_tools_and_a_closing(cap_server: Live) -> None:
    tool = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
    asked = {"messages": user("Use the clock."), "tools": [tool]}
    with serve(card="none", tool_parser="hermes") as live:
        reply = live.chat(**asked, budget={**CAP, "closing": CLOSING})
        choice = reply["choices"][0]
        assert choice["message"]["tool_calls"][0]["function"]["name"] == "clock"
        assert choice["message"]["reasoning"].endswith(shown(CLOSING))
        assert (reply["budget"]["cap_hit"], reply["budget"]["escaped"]) == (True, None)


def test_the_context_has_room_for_it() -> None:
    behaviour = ScriptedBehaviour(never_close=True, max_model_len=120)
    with serve(behaviour, card="none", closing=CLOSING) as live:
        reply = live.chat(budget=1)
        total = reply["usage"]["total_tokens"] + reply["budget"]["injected_tokens"]
        assert reply["budget"]["closing_tokens"] == len(ENCODE(shown(CLOSING)))
        assert total <= 120
        assert reply["choices"][0]["message"]["content"].startswith(ANSWERED)


def test_a_held_out_request_runs_without_any_of_it() -> None:
    with serve(holdout_fraction=1.0, holdout_seed=1, assumed_reasoning_tokens=100) as live:
        report = live.chat(budget={"ratio": 0.2, "closing": CLOSING})["budget"]
        assert (report["arm"], report["cap_hit"]) == ("holdout", False)
        assert (report["closing_tokens"], report["grace_tokens"]) == (0, 0)


# What is refused


@pytest.mark.parametrize(
    ("closing", "said"),
    [
        ("So be it.</think>", "'</think>'"),
        ("<think>", "'<think>'"),
        ("Now <COMP_20> then.", "'<COMP_20>'"),
        ("Now.<|im_end|>", "'<|im_end|>'"),
        ("Zq" * 100, "tokens"),
        ("a" * 401, "400 characters"),
        (5, "400 characters"),
        (["Now."], "400 characters"),
        (True, "400 characters"),
        ("\ud800", "valid Unicode"),
    ],
)
def test_a_closing_that_is_more_than_text_is_refused(
    token_server: Live, closing: Any, said: str
) -> None:
    error = token_server.refused(budget={**CAP, "closing": closing})
    assert error["param"] == "budget.closing"
    assert said in error["message"]


def test_tags_of_several_ids_are_refused_too(text_tags_server: Live) -> None:
    error = text_tags_server.refused(budget={**CAP, "closing": "Done.</think>"})
    assert error["param"] == "budget.closing"


@pytest.mark.parametrize("grace", [-1, 257, 1.5, "8", True])
def test_a_grace_that_is_none_is_refused(cap_server: Live, grace: Any) -> None:
    error = cap_server.refused(budget={"ratio": 0.2, "grace": grace})
    assert error["param"] == "budget.grace"
    assert "0 to 256" in error["message"]


@pytest.mark.parametrize("closing", ["Done.</think>", "<|im_end|>", "Zq" * 100])
def test_an_operators_closing_is_checked_at_the_start(closing: str) -> None:
    with pytest.raises(SettingsError, match="closing "), serve(closing=closing):
        pass


# Escapes


@pytest.mark.parametrize(
    ("answer", "escaped"),
    [
        ("Wait, that is 8. So \\boxed{8}.", True),
        ("and so the total is 8.", True),
        ("The total is 8.", False),
    ],
)
def test_an_answer_that_goes_on_reasoning_is_counted(answer: str, escaped: bool) -> None:
    words = tuple(ENCODE(" the total" * 900))
    with serve(ScriptedBehaviour(says=words, answers=answer), card="none") as live:
        whole = live.chat(budget=CAP)
        assert whole["choices"][0]["message"]["content"] == answer
        assert whole["budget"]["escaped"] is escaped
        assert collect(live.chunks(budget=CAP))["budget"]["escaped"] is escaped
        total = live.chat(budget=CAP, n=2)["budget"]
        assert total["escaped"] is escaped
        counted = {"model": "scripted", "budget": "native"}
        assert live.counted("extracot_reasoning_escapes_total", **counted) == 4 * escaped
        # Nothing was cut off: whatever the answer is like, it is no escape.
        for budget in ("none", 1.0):
            with_room = live.chat(budget={"ratio": "none"} if budget == "none" else budget)
            cut = with_room["budget"]["cap_hit"]
            assert with_room["budget"]["escaped"] is (escaped if cut else None)


def test_the_models_own_answers_are_no_escapes(any_cap_server: Live) -> None:
    for ratio in (0.05, 0.13, 0.37):
        report = any_cap_server.chat(budget=ratio)["budget"]
        assert report["cap_hit"] and report["escaped"] is False


# What goes on after


def test_a_model_that_reasons_on_may_still_end_its_block() -> None:
    """Else it would have no way back: its answer would be all that it has left to think."""
    late = ScriptedBehaviour(answers="Now 36 and 4.\n</think>\n\nThe answer is \\boxed{40}.")
    with serve(late, card="none") as live:
        start, end = (ENCODE(tag)[0] for tag in ("<think>", "</think>"))
        reply = live.chat(budget=CAP)
        report, message = reply["budget"], reply["choices"][0]["message"]
        assert dict(live.engine.requests[-1].sampling.logit_bias) == {start: -100.0}
        assert " ".join(message["content"].split()) == "Now 36 and 4. The answer is \\boxed{40}."
        assert "</think>" not in message["content"] and report["escaped"] is True
        assert report["reasoning_tokens"] <= 12 and adds_up(reply)
        assert collect(live.chunks(budget=CAP))["message"] == message
        whole = live.chat(budget={"max_reasoning_tokens": 900}, max_tokens=2000)
        assert whole["budget"]["escaped"] is None
        none = live.chat(budget="none")
        assert none["budget"]["escaped"] is None
        assert dict(live.engine.requests[-1].sampling.logit_bias) == {start: -100.0, end: -100.0}
