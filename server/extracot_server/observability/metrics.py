"""Prometheus collectors: names, labels and what they count. Knows no HTTP and no engine.

Labels are bounded: ``budget`` is the applied level (a level's name, ``auto``, ``native``, ``none``
or ``cap``), never the number a client typed. Tokens are counted for every request, however it
ends; baseline, saved and overspent only for completed ones. A new metric is told here and in
docs/observability.md, which tests hold against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from time import perf_counter
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from extracot.card import BudgetCard, LevelCard
from extracot.usage import split_saving
from extracot_server.admission.scheduler import Refusal
from extracot_server.budget.holdout import Arm, Saving
from extracot_server.budget.limits import CapReason
from extracot_server.budget.resolve import BudgetSource
from extracot_server.generation.report import BudgetReport, Usage, expected_share
from extracot_server.generation.request import UNFINISHED, RequestTimes
from extracot_server.observability.plain_histogram import PlainHistogram
from extracot_server.observability.quota_metrics import QuotaMetrics
from extracot_server.observability.routing_metrics import RoutingMetrics
from extracot_server.observability.worker_metrics import (
    SAVING_GAUGES,
    in_workers,
    registry_of_workers,
    saving_gauges,
)

# Buckets.
_TOKENS = (0, *(2**power for power in range(3, 19)))  # 8 … 262,144
_RATIOS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 4.0)
_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
_QUEUE = (0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
_SLOW = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600)
_BUDGET = ("model", "budget")  # labels
_FAILURES = ("internal_error", "engine_unavailable", "engine_busy", "upstream_refused")
"""Refusals that are no fault of the request, beside those of :class:`Refusal`."""
MOST_OPENED = 1000
"""Keys whose counts begin at zero."""
_KEY_TOKENS = ("reasoning", "answer", "overhead", "saved", "overspent", "prompt")

_Joined = Literal["livesum", "livemin", "livemax", "livemostrecent"]
"""How the values of several workers become one; of those that live only."""


class EngineFamilies:
    """The engines' own metrics (``vllm:*``), those of several engines side by side."""

    def __init__(self, collectors: Callable[[], Iterable[Collector]]) -> None:
        self._collectors = collectors

    def collect(self) -> list[Metric]:
        """Each family once, with the samples of all."""
        families: dict[str, Metric] = {}
        for collector in self._collectors():
            for family in collector.collect():
                known = families.setdefault(family.name, family)
                if known is not family:
                    known.samples.extend(family.samples)
        return list(families.values())


class ServerMetrics:
    """All collectors of one server on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.exposed = registry_of_workers() if in_workers() else registry
        """What ``/metrics`` shows: of several workers, all of them together."""

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"extracot_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"extracot_{name}", text, labels, buckets=buckets, registry=registry)

        def gauge(name: str, text: str, joined: _Joined, *labels: str) -> Gauge:
            name = f"extracot_{name}"
            return Gauge(name, text, labels, registry=registry, multiprocess_mode=joined)

        self.requests = counter("requests", "Requests by outcome", *_BUDGET, "source", "outcome")
        self.prompt = counter("prompt_tokens", "Prompt tokens", "model")
        self.cached = counter(
            "cached_prompt_tokens", "Prompt tokens that came from a prefix cache", "model"
        )
        self.reasoning = counter("reasoning_tokens", "Reasoning tokens", *_BUDGET, "arm")
        self.answer = counter("answer_tokens", "Answer tokens", *_BUDGET, "arm")
        self.overhead = counter("overhead_tokens", "Level, tag and end-of-text tokens", "model")
        self.baseline = counter("baseline_tokens", "Reasoning tokens expected natively", *_BUDGET)
        self.saved = counter("tokens_saved", "Reasoning tokens below baseline", *_BUDGET)
        self.overspent = counter("tokens_overspent", "Reasoning tokens above baseline", *_BUDGET)
        self.total_saved = counter(
            "total_tokens_saved", "Reasoning and answer tokens below baseline", *_BUDGET
        )
        self.total_overspent = counter(
            "total_tokens_overspent", "Reasoning and answer tokens above baseline", *_BUDGET
        )
        self.cap_hits = counter(
            "budget_cap_hits", "Think blocks closed by a cap", *_BUDGET, "reason"
        )
        self.escapes = counter(
            "reasoning_escapes", "Answers that go on with reasoning that was cut off", *_BUDGET
        )
        self.policy_choices = counter("policy_choices", "Levels chosen by auto", "model", "level")
        self.key_tokens = counter("key_tokens", "Tokens of each API key", "key", "kind")
        self.aborts = counter("aborts", "Requests that ended before their reply did", "reason")
        self.rejected = counter("rejected", "Requests refused before the engine", "reason")
        for reason in (*_FAILURES, *Refusal):  # from zero: the first may be the only ones
            self.rejected.labels(reason)
        # Sums and sums of squares, so that a query can give mean and interval of any time and of
        # all servers together; the gauges below begin with what the usage store held at the start.
        self.holdout, self.holdout_replies, self.holdout_reasoning, self.holdout_squares = (
            counter(f"holdout_{name}", text, "model", "arm", *more)
            for name, text, *more in (
                ("requests", "Requests in the holdout's comparison", "outcome"),
                ("replies", "Completed requests that the comparison counts"),
                ("reasoning_tokens", "Sum over them of mean reasoning tokens a choice"),
                ("reasoning_tokens_squared", "Sum of the squares of those means"),
            )
        )
        self.holdout_saving = {
            end: gauge(f"holdout_saving_{end}tokens", text, "livemostrecent", "model")
            for end, text in SAVING_GAUGES.items()
        }
        self.reasoning_size = histogram(
            "reasoning_tokens_per_request", "Reasoning tokens of a choice", _TOKENS, *_BUDGET
        )
        self.ratio = histogram(
            "realised_ratio", "Reasoning tokens over baseline", _RATIOS, *_BUDGET
        )
        self.first_token, self.first_answer, self.duration = (
            histogram(f"{name}_seconds", text, _SLOW, "model")
            for name, text in (
                ("time_to_first_token", "Time to the first token"),
                ("time_to_first_answer_token", "Time to the first answer token"),
                ("request_duration", "Time to the last token"),
            )
        )
        gaps = ("Time between deltas", _FAST)
        self.inter_token: PlainHistogram | Histogram = (
            histogram("inter_token_seconds", *gaps)
            if in_workers()
            else PlainHistogram("extracot_inter_token_seconds", *gaps, registry)
        )
        self.frontend = histogram(
            "frontend_overhead_seconds", "Time from a request to its engine request", _FAST
        )
        self.queue = histogram("queue_seconds", "Time in the queue, of admitted requests", _QUEUE)
        self.queued = gauge("requests_queued", "Requests waiting in the queue", "livesum")
        self.in_flight = gauge("requests_in_flight", "Requests being served", "livesum")
        self.card_ratio, self.card_accuracy = (
            gauge(f"card_{name}", text, "livemax", *_BUDGET)
            for name, text in (
                ("expected_ratio", "Ratio to baseline that the budget card expects"),
                ("accuracy", "Share of right answers measured for the budget card"),
            )
        )
        self.policy_varies = gauge(
            "card_policy_varies", "1 where the card has auto between levels", "livemax", "model"
        )
        # Down for one worker is down for a share of the requests, so the least of them is shown.
        self.engine_up = gauge("engine_up", "1 while the engine serves", "livemin", "model")
        self.routing = RoutingMetrics(counter, gauge)
        self.usage_store_up = gauge("usage_store_up", "1 while usage can be written", "livemin")
        self.usage_store_up.set(1)  # until it is asked: a worker that starts has not lost it
        self.usage_unwritten = gauge(
            "usage_unwritten_requests", "Requests whose usage is not in the store yet", "livesum"
        )
        self.quotas = QuotaMetrics(gauge)
        self.engine_restarts = counter(
            "engine_restarts", "Engine restarts after one was lost", "outcome"
        )
        for outcome in ("ok", "failed"):  # from zero, so that the first one is an increase
            self.engine_restarts.labels(outcome)
        # As Prometheus tells it of its own configuration: 0 until the file is right again.
        self.keys_reloaded = gauge(
            "keys_last_reload_successful", "0 after a reload that was refused", "livemin"
        )
        self.keys_reloaded.set(1)
        self.batches = counter("batches", "Batches that ended", "status")
        self.batch_lines = counter("batch_lines", "Lines of batches that ended", "outcome")
        self.batches_in_progress = gauge(
            "batches_in_progress", "Batches that run, or wait for slots", "livesum"
        )
        self.build_info = gauge(  # no Info: several workers cannot join one
            *("build_info", "Always 1; the labels say what is running", "livemax"),
            *("version", "engine", "engine_version", "model", "mode", "device"),
        )

    def record_choice(self, model: str, report: BudgetReport) -> None:
        """Count one choice, complete or not."""
        budget = report.level or "native"
        arm = report.arm or Arm.BUDGETED.value
        self.reasoning.labels(model, budget, arm).inc(report.reasoning_tokens or 0)
        self.answer.labels(model, budget, arm).inc(report.answer_tokens or 0)
        self.overhead.labels(model).inc(report.overhead_tokens or 0)
        self.reasoning_size.labels(model, budget).observe(report.reasoning_tokens or 0)
        if report.cap_hit:
            self.cap_hits.labels(model, budget, report.cap_reason or "room").inc()
        if report.escaped:
            self.escapes.labels(model, budget).inc()
        if report.chosen is not None:
            self.policy_choices.labels(model, report.chosen).inc()
        total_saved, total_overspent = split_saving(report.total_saved_tokens_estimate)
        self.total_saved.labels(model, budget).inc(total_saved)
        self.total_overspent.labels(model, budget).inc(total_overspent)
        saving = report.saved_tokens_estimate
        if saving is None or report.baseline_tokens is None:
            return
        saved, overspent = split_saving(saving)
        self.baseline.labels(model, budget).inc(report.baseline_tokens)
        self.saved.labels(model, budget).inc(saved)
        self.overspent.labels(model, budget).inc(overspent)
        if report.realised_ratio is not None:
            self.ratio.labels(model, budget).observe(report.realised_ratio)

    def record_request(
        self, model: str, budget: str, source: str, outcome: str, usage: Usage
    ) -> None:
        """Count one request that reached the engine."""
        self.requests.labels(model, budget, source, outcome).inc()
        self.prompt.labels(model).inc(usage.prompt_tokens)
        self.cached.labels(model).inc(usage.cached_tokens or 0)
        if outcome in UNFINISHED:
            self.aborts.labels(UNFINISHED[outcome]).inc()

    def record_key(self, key: str, prompt: int, reports: Sequence[BudgetReport]) -> None:
        """Count one request for its key; nothing where no key was required."""
        if not key:
            return
        counts = dict.fromkeys(_KEY_TOKENS, 0.0)
        counts["prompt"] = float(prompt)
        for report in reports:
            saved, overspent = split_saving(report.saved_tokens_estimate)
            counts["reasoning"] += report.reasoning_tokens or 0
            counts["answer"] += report.answer_tokens or 0
            # As quotas count: what the server itself wrote was not generated.
            counts["overhead"] += (report.overhead_tokens or 0) - (report.injected_tokens or 0)
            counts["saved"] += saved
            counts["overspent"] += overspent
        for kind, amount in counts.items():
            self.key_tokens.labels(key, kind).inc(amount)

    def show_store(self, up: bool, unwritten: int) -> None:
        """Show whether the store of usage answers, and how many requests it has yet to get."""
        self.usage_store_up.set(up)
        self.usage_unwritten.set(unwritten)

    def open_keys(self, names: Collection[str]) -> None:
        """Begin the counts of these keys at zero, as :meth:`open_model` does a model's. Of more
        than :data:`MOST_OPENED` each begins with its first request: series cost memory and time."""
        for name in names if len(names) <= MOST_OPENED else ():
            for kind in _KEY_TOKENS:
                self.key_tokens.labels(name, kind)

    def open_model(self, model: str, card: BudgetCard | None, arms: Collection[Arm] = ()) -> None:
        """Show what a card says of its levels, and begin what is counted of a model at zero; of its
        comparisons, if it has any, with these ``arms``.

        A counter that appears with its first value has no increase that a query could see, so what
        the first request takes and saves would be lost, and an engine that fails all its requests
        at once, between two scrapes, would never be seen to fail.
        """
        budgets = ["cap", "none"]
        if card is not None:
            budgets = [*(level.name for level in card.levels), "none"]
            budgets += ["auto"] if card.policy is not None else []
            for level in card.levels:
                self._show_level(model, level.name, card, level)
                if card.policy is not None:
                    self.policy_choices.labels(model, level.name)
            if card.policy is not None:
                self._show_level(model, "auto", card, card.policy)
                self.policy_varies.labels(model).set(policy_varies(card))
        for budget in budgets:
            for counter in (self.baseline, self.saved, self.overspent):
                counter.labels(model, budget)
            self.ratio.labels(model, budget)
        for budget in (*budgets, "native"):
            for arm in {Arm.BUDGETED, *arms}:
                self.reasoning.labels(model, budget, arm.value)
                self.answer.labels(model, budget, arm.value)
            for counter in (self.escapes, self.total_saved, self.total_overspent):
                counter.labels(model, budget)
            self.reasoning_size.labels(model, budget)
            for source in get_args(BudgetSource):
                self.requests.labels(model, budget, source, "error")
            for reason in (*get_args(CapReason), "loop"):
                self.cap_hits.labels(model, budget, reason)
        self.prompt.labels(model)
        self.cached.labels(model)
        self.overhead.labels(model)
        for arm in arms:
            self.holdout.labels(model, arm.value, "ok")
            for sums in (self.holdout_replies, self.holdout_reasoning, self.holdout_squares):
                sums.labels(model, arm.value)

    def _show_level(self, model: str, budget: str, card: BudgetCard, level: LevelCard) -> None:
        ratio = expected_share(card, level)
        if ratio is not None:
            self.card_ratio.labels(model, budget).set(ratio)
        if level.accuracy is not None:
            self.card_accuracy.labels(model, budget).set(level.accuracy.mean)

    def batches_running(self, count: int) -> None:
        """So many batches run now."""
        self.batches_in_progress.set(count)

    def batch_ended(self, status: str, completed: int, failed: int) -> None:
        """Count a batch that has ended, and its lines."""
        self.batches.labels(status).inc()
        self.batch_lines.labels("completed").inc(completed)
        self.batch_lines.labels("failed").inc(failed)

    def record_holdout(
        self, model: str, arm: Arm, outcome: str, reasoning: float, saving: Saving | None
    ) -> None:
        """Count a request of the holdout's comparison and show its saving so far.

        ``reasoning`` is the request's mean reasoning tokens a choice; only a completed one counts.
        """
        self.holdout.labels(model, arm.value, outcome).inc()
        if outcome == "ok":
            self.holdout_replies.labels(model, arm.value).inc()
            self.holdout_reasoning.labels(model, arm.value).inc(reasoning)
            self.holdout_squares.labels(model, arm.value).inc(reasoning**2)
        if saving is not None and not in_workers():  # one worker's would pass for that of all
            for end, value in saving_gauges(saving).items():
                self.holdout_saving[end].labels(model).set(value)

    def mark(self, times: RequestTimes, *, answer: bool) -> None:
        """Note that text has come, and observe how long after the text before."""
        now = perf_counter()
        if not times.first_token:
            times.first_token = now
        else:
            self.inter_token.observe(now - times.previous)
        times.previous = now
        if answer and not times.first_answer:
            times.first_answer = now

    def record_times(self, model: str, times: RequestTimes, *, complete: bool) -> None:
        """Observe the marks that a request has reached."""
        if times.first_token:
            self.first_token.labels(model).observe(times.first_token - times.start)
            self.frontend.observe(times.overhead)
        if times.first_answer:
            self.first_answer.labels(model).observe(times.first_answer - times.start)
        if complete:
            self.duration.labels(model).observe(perf_counter() - times.start)


def policy_varies(card: BudgetCard) -> bool:
    """Measured, the policy is no level by another name: its ratio is 10% off every level's."""
    measured = card.policy.realised if card.policy is not None else None
    levels = [level.realised.mean for level in card.levels if level.realised is not None]
    return measured is not None and all(abs(measured.mean - mean) > 0.1 * mean for mean in levels)
