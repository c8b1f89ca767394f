"""A real Prometheus scrapes real servers under load: every expression of deploy/ gives data.

Four servers on the scripted engine: one that serves, with a holdout and a queue, one whose engine
fails, one whose engine is gone and one with keys and quotas. vLLM's own series have the names and
kinds of its source here; that a real server shows them is in `tests/server/test_real_vllm.py`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from time import time
from typing import Any

import httpx
import pytest

from extracot_server.config.upstreams_file import UpstreamSettings
from extracot_server.engine.base import UpstreamState
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine
from tests.deploy.promql import (
    Expression,
    Prometheus,
    VllmSeries,
    alerts,
    panels,
    prometheus,
    recorded,
    selectors,
    vllm_kinds,
)
from tests.server.key_files import OTHER, SECRET, bearer, write
from tests.server.live import Live, read_chunks, serve, user, wait_for

# What may have no data here, and why; a test below says when an entry is no longer needed.
MAY_BE_EMPTY = {} if vllm_kinds() else {"vllm:": "there is no vLLM here to have its names from"}
ROUNDS = 4
BUDGETS: tuple[dict[str, Any], ...] = (
    {},
    {"budget": 0.2},
    {"budget": 0.4, "stream": True, "stream_options": {"include_usage": True}},
    {"budget": 0.6},
    {"budget": 1.0},
    {"budget": "auto", "seed": 3},
    {"budget": "auto", "n": 3, "seed": 9},
    {"budget": "none"},
    {"budget": {"ratio": 0.4, "max_reasoning_tokens": 5}},
    {"budget": 0.8, "max_tokens": 12},
    {"reasoning_effort": "low"},
    {"model": "scripted@0.6"},
    {"budget": {"ratio": 1.0, "enforce": "hard"}},  # never held out; some of these overspend
    {"budget": 7},
)


class Fronted(ScriptedEngine):
    """One with what other engines show: upstreams as `remote`, series of its own as `vllm`."""

    def __init__(self, behaviour: ScriptedBehaviour) -> None:
        super().__init__(behaviour)
        self.vllm = VllmSeries()
        self.collectors = [self.vllm.registry]

    def upstreams(self) -> Sequence[UpstreamState]:
        """One that gets requests and one that does not."""
        first = UpstreamState(
            name="gpu-1", url="http://gpu-1:8000", weight=1, max_running=None, canary=False,
            down=None, drained_by=None, running=1, taken=7,
        )  # fmt: skip
        second = replace(first, name="gpu-2", url="http://gpu-2:8000", down="timed out", running=0)
        return [first, second]

    def drain(self, name: str, *, wanted: bool, try_only: bool = False) -> bool:
        raise AssertionError("nobody asks here")

    async def use_upstreams(
        self, wanted: Sequence[UpstreamSettings], canary: Collection[str]
    ) -> None:
        raise AssertionError("nobody asks here")


@dataclass
class Watched:
    """Prometheus, the server it watches, and what was served while it did."""

    prometheus: Prometheus
    live: Live
    replies: list[dict[str, Any]] = field(default_factory=list)
    keyed: list[httpx.Response] = field(default_factory=list)
    before: float = 0.0


def ask(live: Live, number: int, fields: dict[str, Any]) -> list[dict[str, Any]]:
    """The reply of one request, if it got a whole one with a report."""
    body = {"messages": user(f"Problem {number}"), **fields}
    response = live.post(body)
    if body.get("stream") and response.status_code == 200:
        return [read_chunks(response.text)[-1]]
    return [response.json()] if response.status_code == 200 else []


USED = 'kind=~"prompt|reasoning|answer|overhead"'
SAVED = "sum(extracot_tokens_saved_total) - sum(extracot_tokens_overspent_total)"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Load in rounds, each seen by a scrape, so that rates have something to go by."""
    slow = ScriptedBehaviour(token_interval_seconds=0.0005)
    failing = Fronted(ScriptedBehaviour(fail_after_tokens=8))
    budgeted = {"holdout_fraction": 0.5, "holdout_seed": 1, "max_running": 2, "max_queued": 3}
    folder = tmp_path_factory.mktemp("prometheus")
    gone = ScriptedEngine()
    quotas = [{"requests": ROUNDS, "per": "day"}]
    lower = [{"tokens": 100, "per": "month", "when_over": {"budget": 0.2}}]
    keys = write(
        folder / "keys.yaml",
        {"name": "a", "key": SECRET, "quotas": quotas},
        {"name": "b", "key": OTHER, "quotas": lower},
    )
    with (
        serve(slow, **budgeted) as live,
        serve(on=failing) as broken,
        serve(on=gone, on_engine_death="stay") as dead,
        serve(keys=keys, usage_store=str(folder / "usage.sqlite")) as keyed,
    ):
        gone.die()
        targets = [one.url.removeprefix("http://") for one in (live, broken, dead, keyed)]
        with prometheus(targets, folder) as running, ThreadPoolExecutor(4) as pool:
            running.wait_past(time())
            found = Watched(running, live, before=running.value(SAVED))
            for batch in range(ROUNDS):
                numbers = range(batch * 100, batch * 100 + 2 * len(BUDGETS))
                fields = [BUDGETS[number % len(BUDGETS)] for number in numbers]
                for replies in pool.map(ask, [live] * len(numbers), numbers, fields):
                    found.replies += replies
                with ThreadPoolExecutor(16) as crowd:  # more than may wait
                    for replies in crowd.map(ask, [live] * 16, range(16), [{}] * 16):
                        found.replies += replies
                failing.vllm.step()
                assert broken.post(budget=0.2).status_code == 500
                assert dead.post(budget=0.2).status_code == 503
                for key, budget in ((SECRET, 0.4), (OTHER, 1.0)):
                    keyed.http.headers.update(bearer(key))
                    found.keyed.append(keyed.post(budget=budget))
                    found.replies.append(found.keyed[-1].json())
                running.wait_past(time())
            keyed.http.headers.update(bearer(SECRET))
            for _ in range(2):  # a rate wants two samples
                assert keyed.post(budget="native").status_code == 429
                running.wait_past(time())
            yield found


def empty(running: Prometheus, expressions: list[Expression]) -> dict[str, str]:
    """Those without a single number, but for the ones that may be so."""
    found = {}
    for one in expressions:
        if all(math.isnan(value) for value in running.values(one.expr)):
            found[one.where] = one.expr
    excused = tuple(MAY_BE_EMPTY)
    return {where: expr for where, expr in found.items() if not any(e in expr for e in excused)}


def test_every_panel_has_data(watched: Watched) -> None:
    assert len(panels()) > 60
    assert empty(watched.prometheus, panels()) == {}


def test_every_recording_rule_has_data(watched: Watched) -> None:
    assert empty(watched.prometheus, recorded()) == {}
    unhealthy = [r for r in watched.prometheus.rules() if r["health"] != "ok" or r.get("lastError")]
    assert unhealthy == []


def test_every_alert_is_asked_and_reads_series_that_are_there(watched: Watched) -> None:
    """An alert that is quiet because its metric has another name would be quiet for ever."""
    read = []
    for alert in alerts():
        watched.prometheus.query(alert.expr)
        found = selectors(alert.expr)
        assert found, alert.where
        read += [Expression(f"{alert.where}: {one}", one) for one in found]
    assert empty(watched.prometheus, read) == {}


def test_every_selector_of_every_expression_finds_a_series(watched: Watched) -> None:
    """`a or b` has data where only `a` has, so each part is asked by itself."""
    every = [*panels(), *recorded(), *alerts()]
    parts = {part for one in every for part in selectors(one.expr)}
    asked = [Expression(part, part) for part in sorted(parts)]
    assert len(asked) > 60
    assert empty(watched.prometheus, asked) == {}


def test_what_may_be_empty_is_empty(watched: Watched) -> None:
    for prefix, reason in MAY_BE_EMPTY.items():
        assert watched.prometheus.query(f'{{__name__=~"{prefix}.*"}}') == [], reason


def test_the_replies_own_reports_are_what_prometheus_counts(watched: Watched) -> None:
    """Saved-token arithmetic from end to end: the sum over reports is saved - overspent."""
    reports = [reply["budget"]["saved_tokens_estimate"] for reply in watched.replies]
    claimed = [saving for saving in reports if saving is not None]
    assert len(claimed) > 20 and min(claimed) < 0 < max(claimed)
    counted = watched.prometheus.value(SAVED) - watched.before
    assert counted == pytest.approx(sum(claimed))
    realised = watched.prometheus.values("job_model_budget:extracot_realised_ratio:ratio1h")
    assert realised and all(0 <= ratio < 3 for ratio in realised)


def test_usage_by_key_is_what_its_replies_say(watched: Watched) -> None:
    """Of key a, then of key b, which was over its quota from the second reply on."""
    running = watched.prometheus
    for key, replies in (("a", watched.keyed[::2]), ("b", watched.keyed[1::2])):
        assert [reply.status_code for reply in replies] == [200] * ROUNDS
        counted = running.value(f'sum(extracot_key_tokens_total{{key="{key}", {USED}}})')
        assert counted == sum(reply.json()["usage"]["total_tokens"] for reply in replies)

    def ratios() -> dict[str, float]:
        found = running.query("max by (owner) (extracot_quota_used_ratio)")
        return {one["metric"]["owner"]: float(one["value"][1]) for one in found}

    wait_for(lambda: ratios() == {"key a": 1, "key b": 1})  # told of every ten seconds
    levels = [reply.json()["budget"]["applied_ratio"] for reply in watched.keyed[1::2]]
    assert levels[0] == 1.0 and levels[-1] == 0.2
    assert running.value('sum(extracot_rejected_total{reason="insufficient_quota"})') == 2


def test_a_failing_engine_is_seen_to_fail(watched: Watched) -> None:
    running = watched.prometheus
    assert running.value('sum(extracot_requests_total{outcome="error"})') == ROUNDS
    assert 0 < running.value("job:extracot_failures:share5m") < 0.2
    assert running.value('sum(extracot_rejected_total{reason="queue_full"})') > 0
    states = {r["name"]: r["state"] for r in running.rules() if r["type"] == "alerting"}
    assert states["ExtracotEngineDown"] in ("pending", "firing")
    assert states["ExtracotUpstreamDown"] in ("pending", "firing")  # gpu-2 gets nothing
    assert states["ExtracotServerDown"] == states["ExtracotRatioAdrift"] == "inactive"
