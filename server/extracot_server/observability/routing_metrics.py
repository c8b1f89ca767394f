"""Prometheus collectors of upstreams and canaries. Knows no HTTP and no engine in particular."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import Counter, Gauge

from extracot_server.budget.canary import Side
from extracot_server.engine.base import UpstreamState
from extracot_server.generation.observer import RequestResult
from extracot_server.generation.trial import Trial
from extracot_server.observability.worker_metrics import forget


class RoutingMetrics:
    """Where requests go; ``counter`` and ``gauge`` make collectors on the server's registry."""

    def __init__(self, counter: Callable[..., Counter], gauge: Callable[..., Gauge]) -> None:
        place = ("model", "upstream")
        # Down for one worker is down for a share of the requests, so the least of them is shown.
        self.up = gauge("upstream_up", "1 while an upstream can be used", "livemin", *place)
        self.draining = gauge(
            "upstream_draining", "1 while an upstream gets no new requests", "livemax", *place
        )
        self.running = gauge(
            "upstream_requests_in_flight", "Requests that an upstream works on", "livesum", *place
        )
        self.taken = counter("upstream_requests", "Requests given to an upstream", *place)
        # As Prometheus tells it of its own configuration: 0 until the file is right again.
        self.reloaded = gauge(
            "upstreams_last_reload_successful", "0 after a reload that was refused", "livemin"
        )
        self.reloaded.set(1)
        self.share = gauge("canary_share", "Share of requests for the canary", "livemax", "model")
        arm = ("model", "arm")
        self.requests = counter("canary_requests", "Requests of each side", *arm, "outcome")
        self.moved = counter("canary_moved", "Requests served on the other side", *arm, "reason")
        self.reasoning, self.squares, self.answer = (
            counter(f"canary_{name}", text, *arm)
            for name, text in (
                ("reasoning_tokens", "Mean reasoning tokens a choice, of whole replies"),
                ("reasoning_tokens_squared", "Squares of those means"),
                ("answer_tokens", "Mean answer tokens a choice, of whole replies"),
            )
        )
        self.signals = counter("canary_signals", "Whole replies that show a sign", *arm, "signal")
        self._counted: dict[tuple[str, str], int] = {}

    def show_upstreams(self, models: Sequence[str], states: Sequence[UpstreamState]) -> None:
        """Show how the upstreams of these models stand; those that are gone are shown no more."""
        for model in models:
            shown = {(model, state.url): state for state in states}
            for place in [key for key in self._counted if key[0] == model and key not in shown]:
                del self._counted[place]
                self._forget(place)
            for place, state in shown.items():
                self.up.labels(*place).set(state.down is None)
                self.draining.labels(*place).set(state.drained_by is not None)
                self.running.labels(*place).set(state.running)
                self.taken.labels(*place).inc(max(0, state.taken - self._counted.get(place, 0)))
                self._counted[place] = state.taken

    def _forget(self, place: tuple[str, str]) -> None:
        for gauge in (self.up, self.draining, self.running):
            forget(gauge, *place)

    def record(self, trial: Trial, result: RequestResult) -> None:
        """Count a request of a canary's comparison, as the comparison itself does."""
        amounts = result.compared
        arm = (trial.canary.model, trial.side.value)
        if trial.moved is not None:
            self.moved.labels(*arm, trial.moved).inc()
        if not amounts.get("requests"):
            return
        self.requests.labels(*arm, result.outcome).inc()
        if not amounts.get("replies"):
            return
        self.reasoning.labels(*arm).inc(amounts["reasoning_tokens"])
        self.squares.labels(*arm).inc(amounts["reasoning_tokens"] ** 2)
        self.answer.labels(*arm).inc(amounts["total_tokens"] - amounts["reasoning_tokens"])
        for signal in ("cut", "cap_hit", "escaped", "no_answer"):
            self.signals.labels(*arm, signal).inc(amounts[signal])

    def open_canary(self, model: str) -> None:
        """Begin both sides at zero: a counter that appears has no increase that a query sees."""
        for side in Side:
            for outcome in ("ok", "length", "error"):
                self.requests.labels(model, side.value, outcome)
