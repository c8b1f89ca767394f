"""Several models in one server: each with its own engine, card, policy and queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Gauge

from extracot.errors import CardError
from extracot_server.config.settings import SettingsError
from extracot_server.engine.base import EngineStartError
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine
from tests.server.key_files import bearer, write
from tests.server.live import Live, serve, user


class CannotStart(ScriptedEngine):
    """As one whose folder holds no model."""

    async def start(self) -> None:
        """Fail in one line."""
        raise EngineStartError("model folder /nowhere does not exist")


MODELS: list[dict[str, Any]] = [
    {"name": "small", "budget_ceiling": 0.6},
    {"name": "big", "default_budget": 0.2},
    {"name": "plain", "card": "none", "assumed_reasoning_tokens": 77},
]


@contextmanager
def several(
    *engines: ScriptedEngine, models: list[dict[str, Any]] | None = None, **settings: Any
) -> Iterator[Live]:
    """Serve models, each on an engine of its own."""
    chosen = models or MODELS
    built = [*engines, *(ScriptedEngine() for _ in chosen[len(engines) :])]
    with serve(on=built, models=chosen, **settings) as live:
        yield live


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with several() as found:
        yield found


def test_each_model_answers_by_its_name_and_with_its_own_policy(live: Live) -> None:
    small = live.chat(model="small", budget=1.0)
    assert (small["model"], small["budget"]["level"]) == ("small", "0.6")
    big = live.chat(model="big")
    assert (big["model"], big["budget"]["source"], big["budget"]["level"]) == (
        *("big", "default"),
        "0.2",
    )
    plain = live.chat(model="plain", budget=1.0)["budget"]
    assert (plain["enforcement"], plain["baseline_tokens"]) == ("cap", 77)
    alias = live.chat(model="big@0.4")
    assert (alias["model"], alias["budget"]["level"]) == ("big@0.4", "0.4")
    assert [len(engine.requests) > 0 for engine in live.engine] == [True] * 3


def test_models_and_budgets_are_told_for_each(live: Live) -> None:
    entries = live.http.get("/v1/models").json()["data"]
    assert [entry["id"] for entry in entries if entry["parent"] is None] == [
        *("small", "big", "plain")
    ]
    by_id = {entry["id"]: entry for entry in entries}
    assert by_id["big@auto"]["root"] == "big" and "plain@auto" not in by_id
    budget = live.http.get("/v1/budget", params={"model": "small"}).json()
    assert (budget["model"], budget["policy"]["ceiling"], budget["mode"]) == (
        *("small", 0.6),
        "token",
    )
    plain = live.http.get("/v1/budget", params={"model": "plain"}).json()
    assert (plain["mode"], plain["baseline"]["assumed_reasoning_tokens"]) == ("cap", 77)


def test_a_name_that_is_unknown_or_missing_is_a_clear_error(live: Live) -> None:
    for name in ("other", "small@", "small@9", "@0.2", ""):
        response = live.post(model=name)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (404, "model_not_found"), name
        assert "small, big, plain" in error["message"]
        assert ("small@0.4" in error["message"]) is name.startswith("small@")
    for path in ("/v1/chat/completions", "/v1/tokenize"):
        response = live.http.post(path, json={"messages": user()})
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (400, "model")
        assert "small, big, plain" in error["message"]
    response = live.http.get("/v1/budget")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "model")
    assert live.http.get("/ready", params={"model": "other"}).status_code == 404


def test_metrics_tell_models_apart(live: Live) -> None:
    name = "extracot_requests_total"
    before = {model: live.metric_sum(name, model=model) for model in ("small", "big", "plain")}
    for model in ("small", "big", "big"):
        live.chat(model=model, budget=0.2)
    after = {model: live.metric_sum(name, model=model) for model in before}
    assert {m: after[m] - before[m] for m in before} == {"small": 1, "big": 2, "plain": 0}
    for model in before:
        assert live.metric_sum("extracot_engine_up", model=model) == 1
        assert live.metric_sum("extracot_build_info", model=model) == 1
        assert live.metric_sum("extracot_reasoning_tokens_total", model=model) > 0


def test_an_engine_that_dies_takes_no_other_with_it() -> None:
    dying = ScriptedEngine()
    with several(dying, on_engine_death="stay", health_interval_seconds=0.05) as live:
        live.loop.call_soon_threadsafe(dying.die)
        live.wait_for(lambda: live.metric_sum("extracot_engine_up", model="small") == 0)
        response = live.post(model="small")
        assert (response.status_code, response.json()["error"]["code"]) == (
            *(503, "engine_unavailable"),
        )
        assert live.chat(model="big")["choices"][0]["message"]["content"]
        assert live.metric_sum("extracot_engine_up") == 2
        ready = live.http.get("/ready")
        assert (ready.status_code, ready.json()) == (
            200,
            {
                "status": "ready",
                "models": {"small": "engine down", "big": "ready", "plain": "ready"},
            },
        )
        one = live.http.get("/ready", params={"model": "small"})
        assert (one.status_code, one.json()["status"]) == (503, "engine down")
        assert live.http.get("/ready", params={"model": "big"}).status_code == 200
        for engine in live.engine[1:]:
            live.loop.call_soon_threadsafe(engine.die)
        live.wait_for(lambda: live.http.get("/ready").status_code == 503)


def test_a_lost_engine_is_restarted_while_the_others_serve() -> None:
    dying = ScriptedEngine(ScriptedBehaviour(die_after_tokens=5))
    with several(dying, on_engine_death="restart", health_interval_seconds=0.05) as live:
        assert live.post(model="small").status_code == 503
        dying.behaviour = ScriptedBehaviour()
        assert live.chat(model="big")["choices"][0]["message"]["content"]
        live.wait_for(lambda: live.post(model="small").status_code == 200)


def test_a_full_engine_makes_only_its_own_requests_wait(tmp_path: Path) -> None:
    slow = ScriptedEngine(ScriptedBehaviour(token_interval_seconds=60))
    keys = [
        {"name": "one", "key": "sk-one", "concurrency": 1},
        {"name": "two", "key": "sk-two", "models": ["big"]},
        {"name": "three", "key": "sk-three"},
    ]
    path = write(tmp_path / "keys.yaml", *keys)
    models = [{"name": "small", "max_running": 1, "max_queued": 0}, {"name": "big"}]
    with several(slow, models=models, keys=path) as live:
        live.http.headers.update(bearer("sk-one"))
        body = {"model": "small", "messages": user(), "stream": True}
        with live.http.stream("POST", "/v1/chat/completions", json={**body, "budget": "auto"}):
            live.wait_for(lambda: live.metric_sum("extracot_requests_in_flight") == 1)
            live.http.headers.update(bearer("sk-three"))
            full = live.post(model="small")
            assert (full.status_code, full.json()["error"]["code"]) == (503, "queue_full")
            live.http.headers.update(bearer("sk-one"))
            limited = live.post(model="big")
            assert limited.json()["error"]["code"] == "concurrency", "of all models together"
            live.http.headers.update(bearer("sk-two"))
            assert live.post(model="big").status_code == 200, "its own queue is free"
        listed = live.http.get("/v1/models").json()["data"]
        assert {entry["root"] for entry in listed} == {"big"}
        assert live.post(model="small").status_code == 404, "not even known to this key"
        assert live.post().status_code == 200, "it has one model only, so no name is needed"


def test_a_start_that_fails_says_whose_and_closes_the_rest(tmp_path: Path) -> None:
    first = ScriptedEngine()
    failing = several(first, CannotStart())
    with pytest.raises(EngineStartError, match=r"^model big: model folder /nowhere"), failing:
        pass
    assert first._closed
    # Cards are read first: an engine may take minutes.
    missing = [{"name": "a"}, {"name": "b", "card": str(tmp_path / "no.json")}]
    engines = [CannotStart(), CannotStart()]
    broken = several(*engines, models=missing)
    with pytest.raises(CardError, match=r"^model b: .*no\.json"), broken:
        pass
    twins = several(models=[{}, {}])
    with pytest.raises(SettingsError, match="two models are named scripted"), twins:
        pass


def test_metrics_of_engines_in_this_process_stand_side_by_side() -> None:
    # vLLM's next engine takes the place of the last one's collectors in the global registry.
    engines = [ScriptedEngine(), ScriptedEngine()]
    for engine, name in zip(engines, ("a", "b"), strict=True):
        running = Gauge("vllm:num_requests_running", "Running", ["model_name"], registry=None)
        running.labels(name).set(ord(name))
        engine.collectors = [running]  # type: ignore[attr-defined]
    with several(*engines, models=[{"name": "a"}, {"name": "b"}]) as live:
        text = live.http.get("/metrics").text
        assert text.count("# TYPE vllm:num_requests_running gauge") == 1
        for name in ("a", "b"):
            assert live.metric_sum("vllm:num_requests_running", model_name=name) == ord(name)
