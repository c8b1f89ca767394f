"""Faults of the machine around the server, each caused for real on a process of its own.

Those of vLLM's engine are in `test_faults_vllm.py`; here the scripted engine serves.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from extracot.card import BudgetCard
from extracot.errors import CardError
from extracot_server.engine.scripted.engine import scripted_card
from tests.server.live import read_chunks, serve, user, wait_for
from tests.server.test_process import free_port, started

CHAT = "/v1/chat/completions"
STREAMS = 12
LONG = {"messages": user("How many? " * 20), "stream": True, "ignore_eos": True}


def metric(url: str, name: str) -> float:
    """The sum of one metric."""
    text = httpx.get(f"{url}/metrics").text
    return sum(float(v) for v in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))


class Load:
    """Streams that all have begun; ``texts`` are what came of them, or the error they died of."""

    def __init__(self, url: str, pool: ThreadPoolExecutor, **fields: Any) -> None:
        self._begun = threading.Barrier(STREAMS + 1)
        self._results = [pool.submit(self._one, url, {**LONG, **fields}) for _ in range(STREAMS)]
        self._begun.wait(120)

    def _one(self, url: str, body: dict[str, Any]) -> str | httpx.TransportError:
        lines: list[str] = []
        try:
            with httpx.stream("POST", url + CHAT, json=body, timeout=120) as response:
                for line in response.iter_lines():
                    if not lines:
                        self._begun.wait(120)
                    lines.append(line)
        except httpx.TransportError as error:
            return error
        return "\n".join(lines) + "\n"

    def results(self) -> list[str | httpx.TransportError]:
        """Wait for all."""
        return [result.result(120) for result in self._results]


def test_sigterm_under_load_finishes_every_stream() -> None:
    with (
        ThreadPoolExecutor(STREAMS) as pool,
        started("--grace-seconds", "120") as (process, url, _),
    ):
        load = Load(url, pool, max_tokens=150)
        process.send_signal(signal.SIGTERM)
        for text in load.results():
            assert isinstance(text, str), text
            ends = [c["choices"][0]["finish_reason"] for c in read_chunks(text) if c["choices"]]
            assert [end for end in ends if end] == ["length"]
        assert process.wait(60) == 0


def test_sigkill_under_load_is_seen_by_every_client_and_the_next_server_serves() -> None:
    port = free_port()
    with ThreadPoolExecutor(STREAMS) as pool:
        with started("--port", str(port)) as (process, _, _):
            url = f"http://127.0.0.1:{port}"
            load = Load(url, pool, max_tokens=3000)
            process.send_signal(signal.SIGKILL)
            # Cut in the middle of a chunked reply: an error for any client, never a whole reply.
            assert all(isinstance(end, httpx.TransportError) for end in load.results())
        with started("--port", str(port)):
            assert httpx.post(url + CHAT, json={"messages": user()}).status_code == 200
            assert metric(url, "extracot_requests_in_flight") == 0


MORTAL = """
    import pathlib, sys
    from extracot_server import cli
    from extracot_server.engine.base import EngineDeadError
    from extracot_server.engine.scripted.engine import ScriptedEngine
    alive, healthy = pathlib.Path(sys.argv[1]), ScriptedEngine.check_health
    async def check_health(self):
        if not alive.exists():
            raise EngineDeadError("the engine process died")
        await healthy(self)
    ScriptedEngine.check_health = check_health
    sys.exit(cli.main(sys.argv[2:]))
"""


def test_exit_is_a_code_and_a_line(tmp_path: Path) -> None:
    """For who would rather have the process started anew by what watches it."""
    alive, port = tmp_path / "alive", free_port()
    alive.touch()
    options = ["--engine", "scripted", "--port", str(port), "--on-engine-death", "exit"]
    options += ["--health-interval-seconds", "0.05"]
    command = [sys.executable, "-c", textwrap.dedent(MORTAL), str(alive), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "curl" in line:
                break
        assert httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200
        alive.unlink()
        said = process.stderr.read()
        assert process.wait(60) == 1
    assert said.strip().splitlines()[-1] == (
        "extracot-serve: error: the engine died, and on_engine_death is exit"
    )
    assert "Traceback" not in said


WHOLE_CARD = scripted_card().model_dump_json().encode()


@settings(max_examples=150)
@given(st.data())
def test_a_card_with_any_damage_is_a_card_or_one_line(data: Any) -> None:
    broken = bytearray(WHOLE_CARD)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(broken) - 1))
        match data.draw(st.sampled_from(["cut", "change", "insert", "remove"])):
            case "cut":
                del broken[at + 1 :]
            case "change":
                broken[at] = data.draw(st.integers(0, 255))
            case "insert":
                broken[at:at] = data.draw(st.binary(max_size=4))
            case _ if len(broken) > 1:
                del broken[at]
    with tempfile_of(bytes(broken)) as path:
        try:
            BudgetCard.load(path)
        except CardError as error:
            assert "\n" not in str(error) and path.name in str(error)


@contextmanager
def tempfile_of(content: bytes) -> Iterator[Path]:
    """A file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "budget_card.json"
        path.write_bytes(content)
        yield path


def test_a_card_that_is_damaged_while_it_serves_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(WHOLE_CARD)
    with serve(card=str(path)) as live:
        before = live.http.get("/v1/budget").json()
        path.write_bytes(WHOLE_CARD[:100])
        assert live.chat(budget=0.2)["budget"]["level"] == "0.2"
        path.unlink()
        assert live.http.get("/v1/budget").json() == before


CLOCK = r"""
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <sys/time.h>
    #include <time.h>
    static long offset(void) {
        long seconds = 0;
        FILE *file = fopen(getenv("CLOCK_OFFSET"), "r");
        if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
        return seconds;
    }
    int clock_gettime(clockid_t clock, struct timespec *now) {
        static int (*real)(clockid_t, struct timespec *);
        if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
        int result = real(clock, now);
        if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
            now->tv_sec += offset();
        return result;
    }
    int gettimeofday(struct timeval *now, void *zone) {
        struct timespec exact;
        int result = clock_gettime(CLOCK_REALTIME, &exact);
        now->tv_sec = exact.tv_sec;
        now->tv_usec = exact.tv_nsec / 1000;
        return result;
    }
    time_t time(time_t *out) {
        struct timespec exact;
        clock_gettime(CLOCK_REALTIME, &exact);
        if (out) *out = exact.tv_sec;
        return exact.tv_sec;
    }
"""


@pytest.fixture
def jumping_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], object]:
    """Sets the wall clock of processes started from here on forward by so many seconds."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here: the clock of one process cannot be set")
    library, file = tmp_path / "clock.so", tmp_path / "offset"
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-o", str(library), "-", "-ldl"]
    subprocess.run(command, input=textwrap.dedent(CLOCK), text=True, check=True)
    file.write_text("0")
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("CLOCK_OFFSET", str(file))
    return lambda seconds: file.write_text(str(seconds))


def test_a_clock_that_jumps(jumping_clock: Callable[[int], object], tmp_path: Path) -> None:
    """A day forward, then a year back, in the middle of streams: limits and times do not notice."""
    keys = tmp_path / "keys.yaml"
    keys.write_text(yaml.safe_dump({"keys": [{"name": "a", "key": "k", "requests_per_minute": 4}]}))
    headers, day = {"authorization": "Bearer k"}, 86400
    with started("--keys", str(keys), "--heartbeat-seconds", "20") as (process, url, _):

        def created(**fields: Any) -> Any:
            body = {"messages": user(), "max_tokens": 5, **fields}
            response = httpx.post(url + CHAT, json=body, headers=headers, timeout=60)
            return response.json().get("created", response.status_code)

        first = created()
        body = {**LONG, "max_tokens": 400}
        with httpx.stream("POST", url + CHAT, json=body, headers=headers, timeout=60) as response:
            lines = response.iter_lines()
            text = next(lines) + "\n"
            jumping_clock(day)
            assert day - 600 < created() - first < day + 600  # its clock has really jumped
            jumping_clock(-365 * day)
            text += "\n".join(lines) + "\n"
        assert ": keep-alive" not in text
        ends = [c["choices"][0]["finish_reason"] for c in read_chunks(text) if c["choices"]]
        assert [end for end in ends if end] == ["length"]
        assert created() - first < -300 * day  # the fourth within its minute
        assert created() == 429  # which is still the same minute
        assert httpx.get(f"{url}/ready").status_code == 200
        for name in ("request_duration", "time_to_first_token", "inter_token", "queue"):
            assert 0 <= metric(url, f"extracot_{name}_seconds_sum") < 600
        process.terminate()
        wait_for(lambda: process.poll() is not None, 60)
        assert process.returncode == 0
