"""What a sweep says was saved: never more than its own native rows show."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_client import Extracot, SweepRow, summarise
from extracot_client.commands.sweep import _cells
from extracot_client.playground.session import session_totals
from extracot_client.savings import (
    LEAST_FOR_INTERVAL,
    RowSaving,
    add_up,
    interval,
    is_native,
    row_savings,
)
from tests.clients import fake_server as fake
from tests.clients.fake_server import FakeServer

NUMBERS = st.lists(st.floats(-1e4, 1e4), min_size=LEAST_FOR_INTERVAL, max_size=60)


def row(
    problem: str, budget: object, reasoning: int | None, total: int | None, **more: object
) -> SweepRow:
    fields = {"fingerprint": "f", "question": "q", "finish_reason": "stop"} | more
    counts = {"reasoning_tokens": reasoning, "completion_tokens": total}
    return SweepRow(problem_id=problem, budget=budget, **counts, **fields)


ESTIMATED = {"saved_tokens_estimate": 170.0, "total_saved_tokens_estimate": 160.0}


def test_an_estimate_is_not_shown_against_what_was_measured() -> None:
    rows = [
        row("a", "native", 0, 94, level="native"),
        row("a", "none", 0, 1183, **ESTIMATED),
        row("b", 0.2, 30, 60, **ESTIMATED),
    ]
    native, none, other = row_savings(rows)
    assert native is None
    assert none is not None and (none.total, none.reasoning, none.measured) == (-1089.0, 0.0, True)
    assert other is not None and (other.total, other.measured) == (160.0, False)
    every = add_up([none, other])
    assert every is not None and (every.replies, every.total, every.measured) == (1, -1089.0, True)


def test_a_reply_that_was_cut_or_is_empty_saved_nothing_but_may_have_cost_more() -> None:
    for more in ({"finish_reason": "length"}, {"answer_tokens": 0}, {"answer": " \n"}):
        rows = [
            row("a", "native", 80, 100, level="native"),
            row("a", 0.2, 10, 20, **more),
            row("a", 0.4, 180, 200, **more),
        ]
        _, short, long = row_savings(rows)
        assert short is not None and (short.total, short.reasoning) == (0.0, 0.0)
        assert long is not None and (long.total, long.reasoning) == (-100.0, -100.0)


def test_native_is_what_the_server_ran_natively() -> None:
    assert is_native(row("a", "native", 1, 2, level="native"))
    assert is_native(row("a", None, 1, 2, level="native"))
    assert is_native(row("a", "native", 1, 2)), "a server that reports no level"
    assert not is_native(row("a", "native", 1, 2, level="0.6")), "an operator's ceiling"
    assert not is_native(row("a", "native", None, None, error="x"))


def test_a_cap_in_tokens_is_a_budget_though_servers_call_it_native() -> None:
    cap = {"max_reasoning_tokens": 8}
    rows = [
        row("a", cap, 8, 20, level="native"),
        row("a", "native", 100, 120, level="native"),
        row("a", {"ratio": "native", "closing": "So."}, 100, 120, level="native"),
    ]
    assert [is_native(one) for one in rows] == [False, True, True]
    capped, native, _ = summarise(rows, [cap, "native"])
    assert (capped.ratio_to_native, native.ratio_to_native) == (0.08, 1.0)
    assert (capped.saved_rows, capped.total_saved_tokens, capped.saved_tokens) == (1, 100.0, 92.0)


@given(NUMBERS)
def test_an_interval_lies_around_its_sum(differences: list[float]) -> None:
    low, high = interval(differences)
    if len(set(differences)) == 1:
        assert (low, high) == (None, None), "an interval of no width is none"
        return
    assert low is not None and high is not None and low <= high
    n = len(differences)
    assert n * min(differences) - 1e-6 <= low and high <= n * max(differences) + 1e-6
    assert (low, high) == interval(differences)
    assert interval(differences[: LEAST_FOR_INTERVAL - 1]) == (None, None)


@pytest.mark.parametrize("truth", [0.0, 40.0])
def test_intervals_hold_the_truth_as_often_as_they_say(truth: float) -> None:
    """Differences of skewed lengths, as reasoning has them."""
    draw, held = random.Random(3), 0
    for _ in range(200):
        pairs = [draw.gammavariate(2, 50) - draw.gammavariate(2, 50) + truth for _ in range(60)]
        low, high = interval(pairs)
        assert low is not None and high is not None
        held += low <= 60 * truth <= high
    assert 0.9 <= held / 200 <= 0.99


def test_a_summary_says_what_its_saving_is_measured_by() -> None:
    rows = []
    for n in range(20):
        rows += [
            row(str(n), "native", 100 + n, 120 + n, level="native"),
            row(str(n), 0.2, 20, 40, level="0.2", **ESTIMATED),
        ]
    low, native = summarise(rows, [0.2, "native"])
    assert low.saved_against == "native rows" and low.saved_rows == 20
    assert low.saved_tokens == low.total_saved_tokens == sum(80 + n for n in range(20))
    assert low.total_saved_low is not None and low.total_saved_high is not None
    assert low.total_saved_low < low.total_saved_tokens < low.total_saved_high
    assert (native.saved_against, native.saved_tokens, native.saved_rows) == (None, None, 0)
    (alone,) = summarise([found for found in rows if found.budget == 0.2], [0.2])
    assert alone.saved_against == "server's baseline" and alone.total_saved_tokens == 20 * 160.0
    assert alone.total_saved_low is None
    assert alone.saved_tokens == 20 * 170.0


def test_other_servers_rows_without_reasoning_counts_have_a_total_alone() -> None:
    rows = [row("a", "native", None, 100), row("a", 0.2, None, 40)]
    _, saving = row_savings(rows)
    assert saving is not None and (saving.total, saving.reasoning) == (60.0, None)
    assert row_savings([row("a", 0.2, 10, 20)]) == [None]


def test_a_tool_call_is_no_empty_answer() -> None:
    called = {"answer": "", "finish_reason": "tool_calls"}
    rows = [row("a", "native", 80, 100), row("a", 0.2, 10, 20, **called)]
    assert row_savings(rows)[1] == RowSaving(80.0, 70.0, measured=True)


def test_each_sum_has_the_number_of_its_rows() -> None:
    """A reply that was cut has an estimate of all it took, and none of its reasoning."""
    cut = {"finish_reason": "length", "total_saved_tokens_estimate": 0.0}
    whole = {"saved_tokens_estimate": 92.0, "total_saved_tokens_estimate": 80.0}
    rows = [row("a", 0.6, 8, 20, **whole)]
    rows += [row(f"b{n}", 0.6, 16, 16, **cut) for n in range(29)]
    (found,) = summarise(rows, [0.6])
    assert (found.saved_rows, found.saved_tokens) == (1, 92.0)
    assert (found.total_saved_rows, found.total_saved_tokens) == (30, 80.0)
    assert _cells(found)[-3:-1] == ["3", "92"]


def test_a_server_without_usage_saves_nothing_that_is_known() -> None:
    frames = [fake.chunk(content="\\boxed{4}"), fake.chunk("stop"), fake.DONE]
    with FakeServer([fake.stream(*frames)]) as server, Extracot(server.url, model="m") as client:
        rows = list(client.sweep(["x"], [0.2, "native"], concurrency=1))
        usage = client.solve("x").usage
    assert {row.completion_tokens for row in rows} == {None}
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (None, None, None)
    low, _ = summarise(rows, [0.2, "native"])
    assert (low.saved_against, low.completion_tokens, low.total_saved_tokens) == (None, None, None)
    assert session_totals(rows).completion_tokens is None
