"""Loops: exact ones are found and their block is answered; what only looks alike is left alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from extracot_server.engine.scripted.tokenizer import ScriptedTokenizer
from extracot_server.generation.loops import INTERVAL, LONGEST, REPEATS, loop_period
from tests.server.live import collect, serve

ENCODE = ScriptedTokenizer().encode
DEFAULT = 512


def period(ids: list[int], span: int) -> int | None:
    """Of a sequence that is all reasoning."""
    return loop_period(ids, span, len(ids))


@given(
    st.lists(st.integers(0, 5), max_size=40), st.lists(st.integers(0, 5), min_size=1, max_size=9)
)
def test_a_loop_is_found_as_soon_as_it_is_long_enough(before: list[int], unit: list[int]) -> None:
    copies = 2 * REPEATS
    ids = before + unit * copies
    found = period(ids, REPEATS * len(unit))
    assert found is not None and found <= len(unit)
    assert ids[-REPEATS * found : -found] == ids[-(REPEATS - 1) * found :]


@given(st.lists(st.integers(0, 3), min_size=4, max_size=120), st.integers(4, 40))
def test_what_is_found_is_a_loop_and_nothing_is_missed(ids: list[int], span: int) -> None:
    def is_loop(p: int) -> bool:
        length = max(span, REPEATS * p)
        return length <= len(ids) and ids[-length:-p] == ids[p - length :]

    assert period(ids, span) == next((p for p in range(1, LONGEST) if is_loop(p)), None)


def test_the_longest_loops_and_the_prompts_share() -> None:
    unit = list(range(LONGEST))
    assert period(unit * REPEATS, DEFAULT) == LONGEST
    assert period([*unit, 7777] * REPEATS, DEFAULT) is None
    assert period(unit * (REPEATS - 1), DEFAULT) is None
    assert loop_period([3] * 600, DEFAULT, within=DEFAULT - 1) is None  # the rest is the prompt
    assert loop_period([3] * 600, DEFAULT, within=DEFAULT) == 1


TABLE = "| n | square | even |\n|---|---|---|\n" + "".join(
    f"| {n} | {n * n} | {'yes' if n % 2 == 0 else 'no'} |\n" for n in range(60)
)
ZEROS = "[\n" + "    [0, 0, 0, 0, 0, 0, 0, 0],\n" * 8 + "]\n"
CODE = "".join(
    f"    if x == {n}:\n        total += 1\n        print(total)\n        continue\n"
    for n in range(40)
)
CHECKS = "".join(f"Check {n}: 12 * 7 = 84, and 84 / 7 = 12. That is right.\n" for n in range(40))
DECIMALS = "1 / 7 = 0." + "142857" * 12 + ", and 1 / 3 = 0." + "3" * 80 + "."
THRICE = "Let me check this once more: 6 * 2 = 12, 12 - 3 = 9, so Ben has 9 lettuces left. " * 3
RULES = ("-" * 79 + "\n") * 3


@pytest.mark.parametrize("text", [TABLE, ZEROS, CODE, CHECKS, DECIMALS, THRICE, RULES])
def test_tables_code_and_repeated_checks_are_no_loops(text: str) -> None:
    ids = ENCODE(text)
    assert not looped(ids)
    assert looped(ENCODE(text) + ENCODE("So 12. So 12. ") * 80)


def looped(ids: list[int], span: int = DEFAULT) -> bool:
    """Whether a look at any place finds a loop."""
    return any(loop_period(ids[:end], span, end) for end in range(1, len(ids) + 1))


# What the scripted model says for ever in its block, in ids of one each.
ROUND = " the cost is the total and the total is the cost and so on"


LONG = {"assumed_reasoning_tokens": 2000}


def looping(before: str = "First we add.", **behaviour: Any) -> ScriptedBehaviour:
    """A model that never gets out of a loop."""
    says = ENCODE(before) + ENCODE(ROUND) * 200
    return ScriptedBehaviour(says=tuple(says), **behaviour)


@pytest.mark.parametrize("bundled", [1, 7, 300])
def test_a_loop_is_closed_and_answered(bundled: int) -> None:
    """Where it is closed does not depend on how the engine bundles its tokens."""
    with serve(looping(tokens_per_delta=bundled), card="none", **LONG) as live:
        for fields in ({}, {"budget": "native"}, {"budget": 1.0}):
            reply = live.chat(**fields, max_tokens=3000)
            report, message = reply["budget"], reply["choices"][0]["message"]
            assert (report["cap_hit"], report["cap_reason"]) == (True, "loop")
            assert (report["closed_by"], report["unclosed"]) == ("server", False)
            assert report["reasoning_tokens"] == DEFAULT + INTERVAL
            assert message["content"].startswith("The answer is \\boxed{")
            assert reply["choices"][0]["finish_reason"] == "stop"
        hits = {"model": "scripted", "reason": "loop"}
        assert live.metric_sum("extracot_budget_cap_hits_total", **hits) == 3


def test_a_loop_is_closed_by_the_closing() -> None:
    with serve(looping(), card="none", loop_tokens=40, closing="That will do.") as live:
        whole = live.chat(max_tokens=3000)
        streamed = collect(live.chunks(max_tokens=3000))
        message = whole["choices"][0]["message"]
        assert message["reasoning"].endswith("\n\nThat will do.")
        assert whole["budget"]["cap_reason"] == "loop"
        assert whole["budget"]["reasoning_tokens"] < 40 + 2 * INTERVAL
        assert streamed["message"] == message
        assert streamed["budget"] == whole["budget"]


def test_loops_are_left_alone_where_the_operator_says_so() -> None:
    with serve(looping(), card="none", loop_tokens=0) as live:
        report = live.chat(max_tokens=2000)["budget"]
        assert (report["cap_reason"], report["reasoning_tokens"]) == ("room", 2000 - 256 - 2)


def test_a_cap_comes_before_a_loop() -> None:
    with serve(looping(), card="none", loop_tokens=40, assumed_reasoning_tokens=100) as live:
        for budget in ({"max_reasoning_tokens": 30}, {"ratio": 0.3, "enforce": "hard"}):
            report = live.chat(budget=budget)["budget"]
            assert report["cap_reason"] in ("client", "budget")
            assert report["reasoning_tokens"] == 30


def test_repetition_in_the_answer_is_not_looked_at() -> None:
    with serve(ScriptedBehaviour(answers=ROUND * 80), card="none", loop_tokens=40) as live:
        reply = live.chat(budget="none")
        assert reply["budget"]["cap_hit"] is False
        assert reply["choices"][0]["message"]["content"] == ROUND * 80
