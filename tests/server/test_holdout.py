"""The holdout: an unbiased saving with an honest interval, on traffic whose truth is known."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, variance
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extracot.student_t import student_quantile
from extracot_server.budget.holdout import (
    MIN_FOR_BASELINE,
    MIN_FOR_INTERVAL,
    Arm,
    Holdout,
    Moments,
)
from extracot_server.budget.resolve import BudgetPolicy, BudgetSources, resolve_budget
from extracot_server.budget.values import parse_budget
from extracot_server.engine.scripted.engine import ScriptedBehaviour, scripted_card
from extracot_server.engine.scripted.model import REALISED_RATIOS
from tests.server.holdouts import send, standing
from tests.server.live import Live, serve, user

CARD = scripted_card()
NATIVE_MEAN = 300.0


@given(st.lists(st.floats(-1e6, 1e6), max_size=50), st.floats(0, 1e8))
def test_streaming_mean_and_variance(values: list[float], offset: float) -> None:
    moments = Moments()
    for value in values:
        moments.add(value + offset)
    assert moments.n == len(values)
    if values:
        assert moments.mean == pytest.approx(mean(v + offset for v in values), rel=1e-9, abs=1e-6)
    if len(values) > 1:
        expected = variance([v + offset for v in values])
        assert moments.variance == pytest.approx(expected, rel=1e-6, abs=1e-3)


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(4, 2.776), (5, 2.571), (9, 2.262), (15, 2.131), (30, 2.042), (120, 1.980), (1e9, 1.960)],
)
def test_quantiles_of_students_t(freedom: float, expected: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(expected, abs=0.002)


def simulate(seed: int, ratio: float, requests: int, fraction: float) -> Holdout:
    """Traffic whose saving is ``NATIVE_MEAN * (1 - ratio)``: skewed lengths, as real ones are.

    The card's baseline is right on average, so the claims show what else is wrong with them.
    """
    holdout, lengths = Holdout(fraction, seed), random.Random(seed + 10_000)
    resolved = resolve_budget(BudgetSources(parse_budget(0.2)), CARD, BudgetPolicy())
    for _ in range(requests):
        native = lengths.gammavariate(2.0, NATIVE_MEAN / 2)
        arm = holdout.draw(resolved, BudgetPolicy())
        assert arm is not None
        tokens = native if arm is Arm.HOLDOUT else native * ratio
        claims = [] if arm is Arm.HOLDOUT else [NATIVE_MEAN - tokens]
        holdout.record(arm, tokens, tokens + 10.0, claims, complete=True)
    return holdout


@pytest.mark.parametrize(
    ("ratio", "requests", "fraction"),
    [(0.4, 400, 0.5), (0.4, 600, 0.1), (0.9, 400, 0.2), (1.0, 300, 0.2)],
)
def test_the_estimate_is_unbiased_and_its_interval_covers(
    ratio: float, requests: int, fraction: float
) -> None:
    """Over many runs: the mean estimate is the truth, and 95% of the intervals hold it.

    Beside it the counter of saved tokens alone, which is not the saving: it is too large by what
    was overspent, and claims a saving where there is none (``ratio`` 1).
    """
    truth, runs = NATIVE_MEAN * (1 - ratio), 500
    covered, estimates, positive, net = 0, Moments(), Moments(), Moments()
    for seed in range(runs):
        holdout = simulate(seed, ratio, requests, fraction)
        saving, claims = holdout.saving, holdout.claims
        assert saving is not None
        covered += saving.low <= truth <= saving.high
        estimates.add(saving.mean)
        positive.add(claims.saved / claims.replies)
        net.add((claims.saved - claims.overspent) / claims.replies)
    error = (estimates.variance / runs) ** 0.5
    assert abs(estimates.mean - truth) < 3.5 * error
    # 500 runs: the rate itself is known to within 0.03; skewed data cost the interval a little.
    assert 0.92 <= covered / runs <= 0.98
    assert net.mean == pytest.approx(truth, abs=4 * (net.variance / runs) ** 0.5)
    bias = positive.mean - truth
    if ratio >= 0.9:
        assert bias > 0.15 * NATIVE_MEAN
    else:
        assert bias > 0.0


def test_nothing_is_said_before_there_is_enough() -> None:
    holdout = Holdout(0.5)
    for count in range(MIN_FOR_BASELINE):
        assert (holdout.saving is None) is (count < MIN_FOR_INTERVAL)
        assert holdout.baseline is None
        holdout.record(Arm.HOLDOUT, 100.0, 120.0, [], complete=True)
        holdout.record(Arm.BUDGETED, 40.0, 90.0, [10.0], complete=True)
    assert holdout.saving is not None
    assert (holdout.saving.low, holdout.saving.mean, holdout.saving.high) == (60, 60, 60)
    assert holdout.baseline == 100.0


def test_incomplete_requests_are_counted_and_not_compared() -> None:
    holdout = Holdout(0.5)
    holdout.record(Arm.HOLDOUT, 10.0, 20.0, [], complete=False)
    assert holdout.arms[Arm.HOLDOUT].n == 0 and holdout.left_out[Arm.HOLDOUT] == 1


def test_the_share_is_what_was_asked_and_repeatable() -> None:
    resolved = resolve_budget(BudgetSources(parse_budget(0.4)), CARD, BudgetPolicy())

    def draws(seed: int) -> list[Arm | None]:
        holdout = Holdout(0.1, seed)
        return [holdout.draw(resolved, BudgetPolicy()) for _ in range(20_000)]

    first = draws(1)
    assert first == draws(1) != draws(2)
    assert first.count(Arm.HOLDOUT) == pytest.approx(2000, abs=4 * 1800**0.5)
    assert Holdout(0.0).draw(resolved, BudgetPolicy()) is None
    assert Holdout(1.0).draw(resolved, BudgetPolicy()) is Arm.HOLDOUT


@pytest.mark.parametrize(
    ("asked", "policy", "expected"),
    [
        (0.4, {}, True),
        ("auto", {}, True),
        (0.4, {"floor": 0.3}, True),
        (0.4, {"ceiling": 1.0}, True),
        ("native", {}, False),
        ("none", {}, False),
        (None, {}, False),
        (None, {"default": 0.2}, True),
        ({"ratio": 0.4, "enforce": "hard"}, {}, False),
        ({"ratio": 0.4, "max_reasoning_tokens": 900}, {}, False),
        ({"max_reasoning_tokens": 0}, {}, False),
        (0.4, {"ceiling": 0.6}, False),
        ("native", {"ceiling": 0.6}, False),
        (0.4, {"reasoning_tokens_ceiling": 5000}, False),
    ],
)
def test_nobody_gets_more_than_was_promised(
    asked: Any, policy: dict[str, Any], expected: bool
) -> None:
    within = BudgetPolicy(**policy)
    resolved = resolve_budget(
        BudgetSources(None if asked is None else parse_budget(asked)), CARD, within
    )
    holdout = Holdout(fraction=1.0)
    reason = holdout.exclusion(resolved, CARD, within)
    arm = holdout.draw(resolved, within) if reason is None else None
    assert (arm is Arm.HOLDOUT) is expected


# Over HTTP ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    """Three in ten budgeted requests run natively."""
    with serve(holdout_fraction=0.3, holdout_seed=7) as server:
        yield server


def test_the_server_measures_the_truth(live: Live) -> None:
    """Native lengths of the scripted model are uniform on 40..160, level 0.4 realises 0.41."""
    reports = [send(live, number, budget=0.4) for number in range(400)]
    arms: dict[str, list[int]] = {"budgeted": [], "holdout": []}
    for report in reports:
        assert report["requested"] == 0.4 and report["source"] == "budget"
        assert report["finish"] == ["stop"]
        arms[report["arm"]].append(report["reasoning_tokens"])
        if report["arm"] == "holdout":
            assert (report["level"], report["applied_ratio"]) == ("native", None)
            assert report["saved_tokens_estimate"] is None
        else:
            assert report["level"] == "0.4" and report["saved_tokens_estimate"] is not None
    assert 80 <= len(arms["holdout"]) <= 160
    found, truth = standing(live), 100 * (1 - REALISED_RATIOS[0.4])
    saving = found["saving_per_reply"]
    assert saving["mean"] == pytest.approx(mean(arms["holdout"]) - mean(arms["budgeted"]))
    assert saving["low"] < truth < saving["high"]
    in_all = found["total_saving_per_reply"]  # answers are as long with a budget as without
    assert in_all["low"] < truth < in_all["high"]
    assert in_all["mean"] == pytest.approx(saving["mean"], abs=1)
    assert saving["high"] - saving["low"] < 25
    for arm, values in arms.items():
        assert found["arms"][arm]["requests"] == len(values)
        assert found["arms"][arm]["mean_reasoning_tokens"] == pytest.approx(mean(values))
        assert live.metric_sum("extracot_holdout_requests_total", arm=arm) == len(values)
        assert live.metric_sum("extracot_reasoning_tokens_total", arm=arm) == sum(values)
    native = live.metric_sum("extracot_reasoning_tokens_total", arm="holdout", budget="native")
    assert native == sum(arms["holdout"])
    for name, key in (("", "mean"), ("low_", "low"), ("high_", "high")):
        shown = live.metric_sum(f"extracot_holdout_saving_{name}tokens")
        assert shown == pytest.approx(saving[key])
    assert found["against_baseline"]["replies"] == len(arms["budgeted"])
    claimed = live.metric_sum("extracot_tokens_saved_total")
    assert found["against_baseline"]["saved"] == pytest.approx(claimed)


def test_saved_tokens_alone_claim_what_the_holdout_denies() -> None:
    """Level 1.0 saves nothing; the positive part says about 15 tokens a reply."""
    with serve(holdout_fraction=0.5, holdout_seed=3) as live:
        for number in range(200):
            send(live, number, budget=1.0)
        found = standing(live)
        saving, claims = found["saving_per_reply"], found["against_baseline"]
        assert saving["low"] < 0 < saving["high"]
        assert claims["saved"] / claims["replies"] > 10
        assert claims["net_per_reply"] == pytest.approx(0, abs=8)


def test_header_and_stream_are_marked(live: Live) -> None:
    arms = set()
    for number in range(20):
        body = {"messages": user(f"Stream {number}?"), "budget": 0.2, "stream": True}
        response = live.http.post("/v1/chat/completions", json=body)
        arm = json.loads(response.headers["x-extracot-budget"])["arm"]
        assert f'"arm":"{arm}"' in response.text
        arms.add(arm)
    assert arms == {"budgeted", "holdout"}


def test_what_has_no_part_is_not_marked(live: Live) -> None:
    before = standing(live)["arms"]
    for number in range(20):
        for fields in (
            {},
            {"budget": "native"},
            {"budget": "none"},
            {"budget": {"ratio": 0.4, "max_reasoning_tokens": 9}},
            {"budget": {"ratio": 0.4, "enforce": "hard"}},
        ):
            assert send(live, number, **fields)["arm"] is None
    assert standing(live)["arms"] == before


def test_length_and_several_choices(live: Live) -> None:
    before = standing(live)["arms"]
    for number in range(15):
        assert set(send(live, number, budget=0.2, max_tokens=12)["finish"]) == {"length"}
    after = standing(live)["arms"]
    left_out = [after[arm]["left_out"] - before[arm]["left_out"] for arm in after]
    assert sum(left_out) == 15 and min(left_out) > 0
    assert [after[arm]["requests"] for arm in after] == [before[arm]["requests"] for arm in after]
    for number in range(4):
        send(live, number, budget="auto", n=3)
    counted = standing(live)["arms"]
    total = sum(counted[arm]["requests"] - after[arm]["requests"] for arm in after)
    assert total == 4, "a request counts once, by its mean"


def test_a_keys_ceiling_keeps_its_requests_out(tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    entries = [{"name": "free", "key": "free"}, {"name": "tight", "key": "tight", "ceiling": 0.6}]
    path.write_text(yaml.safe_dump({"keys": entries}))
    with serve(keys=path, holdout_fraction=1.0) as live:
        for key, arm, level in (("free", "holdout", "native"), ("tight", None, "0.4")):
            live.http.headers["authorization"] = f"Bearer {key}"
            report = send(live, 1, budget=0.4)
            assert (report["arm"], report["level"]) == (arm, level)


def test_cap_mode_takes_the_holdouts_mean_as_its_baseline() -> None:
    """From then on caps follow what the model does, and savings count."""
    with serve(card="none", assumed_reasoning_tokens=1000, holdout_fraction=0.5) as live:
        first = [send(live, number, budget=0.5) for number in range(MIN_FOR_BASELINE)]
        assert {report["baseline_source"] for report in first} == {"assumed"}
        assert {report["baseline_tokens"] for report in first} == {1000.0}
        assert live.metric_sum("extracot_tokens_saved_total") == 0
        number = MIN_FOR_BASELINE
        while standing(live)["arms"]["holdout"]["requests"] < MIN_FOR_BASELINE:
            send(live, number, budget=0.5)
            number += 1
        native = standing(live)["arms"]["holdout"]["mean_reasoning_tokens"]
        baseline = live.http.get("/v1/budget").json()["baseline"]
        assert baseline["source"] == "holdout"
        assert baseline["measured_reasoning_tokens"] == pytest.approx(native)
        report = send(live, number, budget=0.5)
        assert report["baseline_source"] == "holdout"
        assert report["baseline_tokens"] == pytest.approx(native)
        while report["arm"] == "holdout":
            number += 1
            report = send(live, number, budget=0.5)
        assert report["max_reasoning_tokens"] == round(0.5 * report["baseline_tokens"])
        saved = report["baseline_tokens"] - report["reasoning_tokens"]
        assert report["saved_tokens_estimate"] == pytest.approx(saved)
        in_all = report["baseline_total_tokens"] - report["reasoning_tokens"]
        in_all -= report["answer_tokens"]
        assert report["total_saved_tokens_estimate"] == pytest.approx(in_all)
        assert 7 <= report["baseline_total_tokens"] - report["baseline_tokens"] <= 9
        bound = live.http.get("/v1/models").json()["data"][0]["budget"]["default_max_tokens"]
        native = standing(live)["arms"]["holdout"]["mean_reasoning_tokens"]
        assert bound == max(8000, round(8 * native))  # what was measured may raise it alone
        assert live.chat(budget="native")["budget"]["max_tokens"] <= bound


def test_an_error_is_left_out() -> None:
    with serve(ScriptedBehaviour(fail_after_tokens=4), holdout_fraction=1.0) as live:
        assert live.post(budget=0.2).status_code == 500
        assert standing(live)["arms"]["holdout"] == {
            "requests": 0,
            "mean_reasoning_tokens": None,
            "left_out": 1,
        }
        labels = {"arm": "holdout", "outcome": "error"}
        assert live.metric_sum("extracot_holdout_requests_total", **labels) == 1


def test_off_by_default(token_server: Live) -> None:
    assert token_server.chat(budget=0.2)["budget"]["arm"] is None
    assert standing(token_server)["fraction"] == 0
