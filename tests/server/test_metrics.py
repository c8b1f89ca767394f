"""Counters are what the reports say: completed, truncated, aborted, failed, one or several."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from extracot_server.observability.plain_histogram import PlainHistogram
from tests.server.key_files import OTHER, SECRET, bearer, write
from tests.server.live import Live, serve, user

# Every name of the protocol that this path can move.
NAMES = {
    *("extracot_requests_total", "extracot_prompt_tokens_total", "extracot_reasoning_tokens_total"),
    *("extracot_answer_tokens_total", "extracot_overhead_tokens_total"),
    *("extracot_baseline_tokens_total", "extracot_tokens_saved_total"),
    *("extracot_tokens_overspent_total", "extracot_budget_cap_hits_total"),
    *("extracot_policy_choices_total", "extracot_aborts_total", "extracot_rejected_total"),
    *("extracot_reasoning_tokens_per_request_count", "extracot_realised_ratio_count"),
    *("extracot_time_to_first_token_seconds_count", "extracot_request_duration_seconds_count"),
    *("extracot_time_to_first_answer_token_seconds_count", "extracot_inter_token_seconds_count"),
    *("extracot_frontend_overhead_seconds_count", "extracot_requests_in_flight"),
    *("extracot_engine_up", "extracot_build_info"),
    *("extracot_queue_seconds_count", "extracot_requests_queued"),
}
QUESTIONS = ["What is 2+2?", "Ann has 3 apples.", "How many days?", "Sum the even numbers."]


def reports_of(reply: dict[str, Any]) -> list[dict[str, Any]]:
    """The report of each choice."""
    return [choice["budget"] for choice in reply["choices"]]


@pytest.fixture(scope="module")
def traffic() -> Iterator[tuple[Live, list[dict[str, Any]]]]:
    """A server with mixed traffic behind it: the server and all replies."""
    with serve() as live:
        replies = []
        for text in QUESTIONS:
            for fields in (
                {},
                {"budget": 0.2},
                {"budget": 1, "n": 3, "seed": 5},
                {"budget": "auto", "n": 4, "seed": 9},
                {"budget": "none"},
                {"budget": {"ratio": 0.4, "max_reasoning_tokens": 3}},
                {"budget": 0.6, "max_tokens": 12},
                {"budget": 0.8, "n": 2, "max_tokens": 90, "seed": 1},
                {"reasoning_effort": "low"},
                {"model": "scripted@0.4"},
            ):
                replies.append(live.chat(messages=user(text), **fields))
        yield live, replies


def test_reports_sum_to_the_counters(traffic: tuple[Live, list[dict[str, Any]]]) -> None:
    live, replies = traffic
    reports = [report for reply in replies for report in reports_of(reply)]
    usage = [reply["usage"] for reply in replies]

    def total(name: str) -> float:
        return sum(report[name] for report in reports)

    assert live.metric_sum("extracot_reasoning_tokens_total") == total("reasoning_tokens")
    assert live.metric_sum("extracot_answer_tokens_total") == total("answer_tokens")
    assert live.metric_sum("extracot_overhead_tokens_total") == total("overhead_tokens")
    assert live.metric_sum("extracot_prompt_tokens_total") == sum(u["prompt_tokens"] for u in usage)
    everything = total("reasoning_tokens") + total("answer_tokens") + total("overhead_tokens")
    generated = sum(u["completion_tokens"] for u in usage)
    assert everything == generated + total("injected_tokens")
    in_details = sum(u["completion_tokens_details"]["reasoning_tokens"] for u in usage)
    assert in_details == total("reasoning_tokens")


def test_saved_minus_overspent_is_baseline_minus_reasoning(
    traffic: tuple[Live, list[dict[str, Any]]],
) -> None:
    live, replies = traffic
    counted = [
        report
        for reply in replies
        for report in reports_of(reply)
        if report["saved_tokens_estimate"] is not None
    ]
    assert counted
    baseline = live.metric_sum("extracot_baseline_tokens_total")
    saved = live.metric_sum("extracot_tokens_saved_total")
    overspent = live.metric_sum("extracot_tokens_overspent_total")
    reasoning = sum(report["reasoning_tokens"] for report in counted)
    assert baseline == sum(report["baseline_tokens"] for report in counted)
    assert saved - overspent == pytest.approx(baseline - reasoning)
    assert overspent > 0  # level 1.0 on a long problem costs more than the mean
    ratios = live.metric_sum("extracot_realised_ratio_count")
    assert ratios == len(counted)
    total = sum(reply["budget"]["saved_tokens_estimate"] or 0 for reply in replies)
    assert total == pytest.approx(saved - overspent)


def test_only_what_ended_by_itself_saves(traffic: tuple[Live, list[dict[str, Any]]]) -> None:
    for reply in traffic[1]:
        for choice in reply["choices"]:
            report = choice["budget"]
            claims = report["saved_tokens_estimate"] is not None
            budgeted = report["level"] != "native"
            assert claims is (budgeted and choice["finish_reason"] == "stop")


def test_requests_by_level_source_and_outcome(traffic: tuple[Live, list[dict[str, Any]]]) -> None:
    live, replies = traffic
    assert live.metric_sum("extracot_requests_total") == len(replies)
    count = len(QUESTIONS)
    for labels, expected in (
        ({"budget": "native", "source": "default"}, count),
        ({"budget": "0.2", "source": "budget", "outcome": "ok"}, count),
        ({"budget": "auto"}, count),
        ({"budget": "none"}, count),
        ({"source": "alias"}, count),
        ({"source": "reasoning_effort"}, count),
        ({"budget": "0.6", "outcome": "length"}, count),
    ):
        assert live.metric_sum("extracot_requests_total", **labels) == expected, labels
    choices = [c for reply in replies for c in reports_of(reply)]
    chosen = [report["chosen"] for report in choices if report["chosen"]]
    assert live.metric_sum("extracot_policy_choices_total") == len(chosen)
    for level in set(chosen):
        found = live.metric_sum("extracot_policy_choices_total", level=level)
        assert found == chosen.count(level)
    sizes = live.metric_sum("extracot_reasoning_tokens_per_request_count")
    assert sizes == len(choices)
    hits = live.metric_sum("extracot_budget_cap_hits_total")
    assert hits == sum(report["cap_hit"] for report in choices)
    assert live.metric_sum("extracot_budget_cap_hits_total", reason="client") == count
    assert live.metric_sum("extracot_budget_cap_hits_total", reason="room") == hits - count


def test_times_are_observed_once_a_request(traffic: tuple[Live, list[dict[str, Any]]]) -> None:
    live, replies = traffic
    for name in ("time_to_first_token", "time_to_first_answer_token", "request_duration"):
        assert live.metric_sum(f"extracot_{name}_seconds_count") == len(replies)
    assert live.metric_sum("extracot_frontend_overhead_seconds_count") == len(replies)
    first = live.metric_sum("extracot_time_to_first_token_seconds_sum")
    answer = live.metric_sum("extracot_time_to_first_answer_token_seconds_sum")
    whole = live.metric_sum("extracot_request_duration_seconds_sum")
    assert 0 < first <= answer <= whole
    assert live.metric_sum("extracot_requests_in_flight") == 0


def test_every_name_of_the_protocol_is_there(traffic: tuple[Live, list[dict[str, Any]]]) -> None:
    live, _ = traffic
    live.post(budget="fast")
    found = {name for name, _ in live.metrics()}
    assert NAMES - found == {"extracot_aborts_total"}  # nobody has left
    own = {name for name in found if not name.startswith("vllm:")}  # an engine ran in this process
    assert not any(name.endswith("_created") for name in own if "extracot" not in name)


def test_labels_are_bounded(token_server: Live) -> None:
    live = token_server

    def reasons() -> set[str]:
        labels = [dict(has) for name, has in live.metrics() if name.startswith("extracot_")]
        return {has["reason"] for has in labels if "reason" in has}

    before = reasons()
    for ratio in (0.013, 0.177, 0.5431, 0.99):
        live.chat(budget=ratio)
    for number in range(5):
        live.post(budget=f"word{number}")
        live.post(model=f"model{number}")
        live.http.get(f"/path{number}")
    allowed = {"0.2", "0.4", "0.6", "0.8", "1.0", "auto", "native", "none", "cap"}
    labels = [dict(has) for name, has in live.metrics() if name.startswith("extracot_")]
    assert {has["budget"] for has in labels if "budget" in has} <= allowed
    assert {has["model"] for has in labels if "model" in has} == {"scripted"}
    assert len(before) < 40
    assert reasons() - before <= {"invalid_value", "model_not_found", "not_found"}
    known = {"model", "budget", "source", "outcome", "arm", "reason", "level", "le"}
    build = {"version", "engine", "engine_version", "mode", "device"}
    assert set().union(*labels) <= known | build


def test_an_error_saves_nothing_but_counts_its_tokens() -> None:
    with serve(ScriptedBehaviour(fail_after_tokens=8)) as live:
        assert live.post(budget=0.2, n=2).status_code == 500
        assert live.metric_sum("extracot_requests_total", outcome="error") == 1
        assert live.metric_sum("extracot_aborts_total", reason="engine") == 1
        assert live.metric_sum("extracot_reasoning_tokens_total", budget="0.2") > 0
        for name in ("baseline_tokens", "tokens_saved", "tokens_overspent"):
            assert live.metric_sum(f"extracot_{name}_total") == 0
        assert live.metric_sum("extracot_request_duration_seconds_count") == 0


def test_a_choice_that_ended_in_an_aborted_request_saves_nothing() -> None:
    """One of two choices is done when the client leaves: nobody got the reply."""
    slow = ScriptedBehaviour(token_interval_seconds=0.02)
    with serve(slow) as live:
        body = {"messages": user(), "stream": True, "n": 4, "budget": "auto", "seed": 0}
        with live.http.stream("POST", "/v1/chat/completions", json=body) as response:
            for line in response.iter_lines():
                if '"finish_reason":"stop"' in line:
                    break
        live.wait_for(lambda: live.metric_sum("extracot_requests_total") == 1)
        assert live.metric_sum("extracot_requests_total", outcome="aborted") == 1
        assert live.metric_sum("extracot_answer_tokens_total") > 0
        assert live.metric_sum("extracot_tokens_saved_total") == 0
        assert live.metric_sum("extracot_baseline_tokens_total") == 0


BUCKETS = (0.0005, 0.01, 0.25, 1, 10)
SECONDS = st.floats(0, 100) | st.sampled_from((*BUCKETS, float("inf")))


@given(st.lists(SECONDS, max_size=30))
def test_what_counts_every_token_shows_what_a_histogram_would(values: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    plain = PlainHistogram("gaps_seconds", "Between deltas", BUCKETS, ours)
    usual = Histogram("gaps_seconds", "Between deltas", buckets=BUCKETS, registry=theirs)
    for value in values:
        plain.observe(value)
        usual.observe(value)

    def shown(registry: CollectorRegistry) -> list[str]:
        lines = generate_latest(registry).decode().splitlines()
        return [line.partition("_created ")[0] for line in lines]  # when it was made may differ

    assert shown(ours) == shown(theirs)


def test_buckets_reach_as_far_as_replies_may(traffic: tuple[Live, list[dict[str, Any]]]) -> None:
    """Nor are there so many that each model's levels fill a database with them."""
    bounds: dict[str, set[float]] = {}
    for name, labels in traffic[0].metrics():
        if name.startswith("extracot_") and name.endswith("_bucket"):
            bounds.setdefault(name, set()).add(float(dict(labels)["le"]))
    assert len(bounds) > 6
    for name, found in bounds.items():
        longest = max(found - {float("inf")})
        assert len(found) <= 20, name
        if "tokens_per_request" in name:
            assert longest == 262_144
        elif any(word in name for word in ("time_to", "duration", "queue")):
            assert longest == 3600, name


def counted(live: Live) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What the dashboards take increases of."""
    names = re.compile(r"extracot_(key_|\w+_tokens|tokens_|budget_cap|holdout_(rep|rea)|realised)")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(live.http.get("/metrics").text)
        for sample in family.samples
        if names.match(sample.name) and not sample.name.endswith("_created")
    }


@pytest.mark.parametrize("holdout", [0.0, 0.5])
def test_the_first_request_is_an_increase(tmp_path: Path, holdout: float) -> None:
    keys = write(tmp_path / "k.yaml", {"name": "a", "key": SECRET}, {"name": "b", "key": OTHER})
    with serve(keys=keys, holdout_fraction=holdout, usage_store="memory") as live:
        live.http.headers.update(bearer(SECRET))
        before = counted(live)
        assert before and not any(before.values())
        for fields in (
            *({"budget": 0.2}, {"budget": "auto"}, {"budget": "none"}, {}, {"budget": 1, "n": 3}),
            *({"budget": {"max_reasoning_tokens": 3}}, {"budget": 0.8, "max_tokens": 20}),
        ):
            for text in QUESTIONS:
                live.chat(messages=user(text), **fields)
        after = counted(live)
        assert sorted(after.keys() - before.keys(), key=str) == []
        assert sum(after.values()) > 1000
        write(keys, {"name": "c", "key": OTHER})
        live.app.state.extracot.reload_keys()
        mine = ("extracot_key_tokens_total", frozenset({("key", "c"), ("kind", "saved")}))
        assert counted(live)[mine] == 0


def failures(live: Live) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Requests that failed, and refusals."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(live.http.get("/metrics").text)
        for sample in family.samples
        if sample.name == "extracot_rejected_total"
        or (sample.name, sample.labels.get("outcome")) == ("extracot_requests_total", "error")
    }


@pytest.mark.parametrize("after", [None, 8])
def test_failures_that_come_all_at_once_are_an_increase(after: int | None) -> None:
    """An engine that is gone, and one that fails in the middle of what it runs."""
    with serve(ScriptedBehaviour(fail_after_tokens=after)) as live:
        before = failures(live)
        assert before and not any(before.values())
        if after is None:
            live.loop.call_soon_threadsafe(live.engine.die)
        for fields in ({"budget": 0.2}, {"reasoning_effort": "low"}, {}, {"model": "scripted@0.4"}):
            assert live.post(**fields).status_code == (503 if after is None else 500)
        now = failures(live)
        assert sorted(now.keys() - before.keys(), key=str) == []
        assert sum(now.values()) == 4


class Waiting(Collector):
    """It takes as long as the test wants."""

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()

    def collect(self) -> Iterable[Metric]:
        """Nothing, and that late."""
        self.asked.set()
        assert self.go_on.wait(30)
        return []


def test_replies_go_on_while_metrics_are_collected() -> None:
    with serve() as live, ThreadPoolExecutor() as pool:
        waiting = Waiting()
        live.app.state.extracot.metrics.registry.register(waiting)
        scrape = pool.submit(live.http.get, "/metrics")
        assert waiting.asked.wait(30)
        assert live.chat(budget=0.2)["choices"]
        assert not scrape.done()
        waiting.go_on.set()
        assert "extracot_requests_total" in scrape.result().text
