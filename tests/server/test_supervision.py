"""An engine that is lost: restarted with growing pauses, the end of the server, or left down."""

from __future__ import annotations

import json
import threading

import pytest

from extracot_server.engine.base import EngineStartError
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine
from extracot_server.model_registry.supervision import Backoff
from tests.server.live import Live, read_events, serve


class HardToStart(ScriptedEngine):
    """After a death it fails to start this many times, and waits to be let go each time."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures
        self.tries = 0

    async def restart(self) -> None:
        """Fail or live."""
        self.tries += 1
        if self.tries <= self.failures:
            raise EngineStartError("cannot serve scripted: no memory left")
        await super().restart()


def kill(live: Live) -> None:
    live.loop.call_soon_threadsafe(live.engine.die)


def ready(live: Live) -> tuple[int, str]:
    response = live.http.get("/ready")
    return response.status_code, response.json()["status"]


def test_a_lost_engine_is_started_again_and_ready_tells() -> None:
    engine = HardToStart(failures=1)
    with serve(on=engine, on_engine_death="restart", health_interval_seconds=0.05) as live:
        assert ready(live) == (200, "ready")
        kill(live)
        live.wait_for(lambda: ready(live) == (503, "engine restarting"))
        refused = live.post()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        live.wait_for(lambda: ready(live)[0] == 200)
        assert engine.tries == 2
        assert live.chat(budget=0.2)["choices"][0]["message"]["content"]
        assert live.metric_sum("extracot_engine_restarts_total", outcome="failed") == 1
        assert live.metric_sum("extracot_engine_restarts_total", outcome="ok") == 1
        assert live.metric_sum("extracot_engine_up") == 1
        kill(live)  # again, and it comes again
        live.wait_for(lambda: engine.tries == 3 and ready(live)[0] == 200)


def test_streams_that_ran_are_told_and_the_next_request_is_served() -> None:
    engine = ScriptedEngine(ScriptedBehaviour(die_after_tokens=12))
    with serve(on=engine, on_engine_death="restart") as live:
        *_, error, done = read_events(live.post(stream=True).text)
        assert (json.loads(error)["error"]["code"], done) == ("engine_unavailable", "[DONE]")
        engine.behaviour = ScriptedBehaviour()
        live.wait_for(lambda: live.post().status_code == 200)
        assert live.in_flight() == 0


def test_exit_ends_the_server_and_says_so() -> None:
    with serve(on_engine_death="exit", health_interval_seconds=0.05) as live:
        ended = threading.Event()
        live.app.state.extracot.give_up = ended.set
        kill(live)
        assert ended.wait(60)
        server = live.server
        live.loop.call_soon_threadsafe(server.give_up)
        live.wait_for(lambda: server.should_exit and server.gave_up)


def test_stay_is_down_until_somebody_acts() -> None:
    with serve(on_engine_death="stay", health_interval_seconds=0.02) as live:
        kill(live)
        live.wait_for(lambda: ready(live) == (503, "engine down"))
        assert live.http.get("/health").status_code == 200
        assert live.metric_sum("extracot_engine_restarts_total") == 0


def test_stopping_is_not_dying() -> None:
    """What a drop closes must not be started again."""
    engine = HardToStart(failures=0)
    with serve(on=engine, on_engine_death="restart", health_interval_seconds=0.02) as live:
        live.stop()
        live.stop()
        live.wait_for(lambda: engine._closed)
    assert engine.tries == 0


def test_pauses_grow_and_an_engine_that_served_is_forgiven() -> None:
    now = [0.0]
    backoff = Backoff(first=1, longest=8, stable_seconds=300, clock=lambda: now[0])
    assert [backoff.wait() for _ in range(5)] == [1, 2, 4, 8, 8]
    backoff.came_up()
    now[0] += 299
    assert backoff.wait() == 8
    backoff.came_up()
    now[0] += 300
    assert backoff.wait() == 1


@pytest.mark.parametrize("value", ["maybe", ""])
def test_a_wrong_policy_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="on_engine_death"), serve(on_engine_death=value):
        raise AssertionError("it served")
