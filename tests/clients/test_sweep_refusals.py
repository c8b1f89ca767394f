"""What a sweep refuses, where it stops, and what it tells of requests that all failed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import extracot_client
from extracot_client import (
    Extracot,
    ExtracotAPIError,
    InvalidArgumentError,
    OverloadedError,
    Problem,
    RateLimitError,
    ServerError,
    Solution,
    SweepProblem,
)
from extracot_client.sweeps import sweep_rows
from tests.clients import fake_server as fake
from tests.clients.conftest import LiveServer
from tests.clients.fake_server import GOOD, FakeServer
from tests.clients.test_cli import Captured, run

PROBLEMS = [SweepProblem("a", "What is 2 + 2?", "4"), SweepProblem("b", "What is 3 * 5?")]


@pytest.mark.parametrize(
    ("problems", "budgets", "param"),
    [
        ("7+8?", [0.2], "problems"),
        (SweepProblem("a", "q"), [0.2], "problems"),
        ({"question": "q"}, [0.2], "problems"),
        (None, [0.2], "problems"),
        ([[{"role": "user", "content": "q"}]], [0.2], "problems"),
        ([{"role": "user", "content": "q"}], [0.2], "problems"),
        ([SweepProblem("a", 5)], [0.2], "problems"),  # type: ignore[arg-type]
        ([SweepProblem(5, "q")], [0.2], "problems"),  # type: ignore[arg-type]
        (["q"], "native", "budgets"),
        (["q"], 0.2, "budgets"),
        (["q"], {"ratio": 0.2}, "budgets"),
        (["q"], None, "budgets"),
    ],
)
def test_what_is_no_list_of_texts_is_refused_before_anything_is_asked(
    no_server: str, problems: Any, budgets: Any, param: str
) -> None:
    with Extracot(no_server) as client, pytest.raises(InvalidArgumentError) as caught:
        list(client.sweep(problems, budgets))
    assert caught.value.param == param


def test_what_comes_one_by_one_is_asked_at_every_budget(live: LiveServer) -> None:
    with Extracot(live.url) as client:
        problems, budgets = iter(PROBLEMS), (one for one in (0.2, "none"))
        rows = list(client.sweep(problems, budgets))
    assert sorted((row.problem_id, str(row.budget)) for row in rows) == [
        *(("a", "0.2"), ("a", "none"), ("b", "0.2"), ("b", "none"))
    ]


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimitError), (503, OverloadedError)])
def test_a_server_that_asks_to_come_back_later_is_not_asked_on(
    status: int, kind: type[ExtracotAPIError]
) -> None:
    refusal = fake.error(status, "Slow down.", retry_after="90")
    with FakeServer([fake.stream(*GOOD), refusal]) as server:
        with Extracot(server.url, model="m") as client:
            rows = client.sweep([str(n) for n in range(30)], [0.2], concurrency=1)
            assert next(rows).boxed == "4"
            with pytest.raises(kind) as caught:
                next(rows)
        assert len(server.seen) == 2
    assert caught.value.retry_after == 90 and f"HTTP {status}" in str(caught.value)
    assert "Slow down. The server asks to come back in 90 s; a request waits 60" in str(
        caught.value
    )


def test_what_runs_is_kept_when_the_server_asks_to_come_back_later() -> None:
    """It is paid for: two are running when the third is refused."""

    async def sweep() -> tuple[list[str], Exception]:
        told, refused = asyncio.Event(), RateLimitError("no", status=429, retry_after=9.0)
        asked: list[str] = []

        async def ask(problem: Problem, **_: object) -> Solution:
            asked.append(str(problem))
            if problem == "c":
                told.set()
                raise refused
            await told.wait()
            raise ServerError("broke")

        rows = sweep_rows(ask, [*"abcdef"], [0.2], concurrency=3, skip=None, patience=8)
        found: list[str] = []
        with pytest.raises(RateLimitError) as caught:
            async for row in rows:
                found.append(row.question)
        assert sorted(asked) == [*"abc"]
        return sorted(found), caught.value

    found, error = asyncio.run(sweep())
    assert found == ["a", "b"] and "come back in 9 s; a request waits 8 s" in str(error)


def test_a_deadline_is_as_long_as_a_request_waits() -> None:
    refusal = fake.error(429, "no", retry_after="30")
    with FakeServer([refusal]) as server, Extracot(server.url, model="m", deadline=5) as client:
        with pytest.raises(RateLimitError, match="in 30 s; a request waits 5 s"):
            list(client.sweep(["x", "y"], [0.2], concurrency=1))
        assert len(server.seen) == 1


def test_a_thread_that_cannot_start_its_loop_says_so(
    no_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(asyncio.events, "new_event_loop", none_left)
    with Extracot(no_server) as client, pytest.raises(OSError, match="Too many open files"):
        list(client.sweep(["x"], [0.2]))


def test_the_types_of_public_calls_are_public() -> None:
    assert {"Budget", "Problem", "SolveOptions", "Usage"} <= set(extracot_client.__all__)
    assert all(hasattr(extracot_client, name) for name in extracot_client.__all__)
    assert extracot_client.Usage().completion_tokens is None
    assert extracot_client.Usage().cached_tokens is None


def test_a_sweep_of_which_all_failed_names_that_reason(capsys: Captured, tmp_path: Path) -> None:
    problems, picture = tmp_path / "in.jsonl", tmp_path / "x.png"
    problems.write_text('{"question": "1+1", "answer": "2"}\n')
    command = ["sweep", str(problems), "--budgets", "0.2", "--model", "m", "--plot", str(picture)]
    with FakeServer([fake.error(500, "boom")]) as server:
        assert run(*command, "--base-url", server.url) == 1
    out, err = capsys.readouterr()
    assert "right: no problem with a known answer was answered" in out
    assert "has a known answer" not in out and "no picture: all requests failed" in err


def test_a_server_that_tells_no_tokens_is_shown_with_a_dash(capsys: Captured) -> None:
    frames = [fake.chunk(content="\\boxed{4}"), fake.chunk("stop"), fake.DONE]
    with FakeServer([fake.stream(*frames)]) as server:
        assert run("ask", "x", "--base-url", server.url) == 0
    assert "– tokens" in capsys.readouterr().err


def test_a_sweep_stops_where_the_server_says_to_come_back_later(
    capsys: Captured, tmp_path: Path
) -> None:
    problems, kept = tmp_path / "in.jsonl", tmp_path / "rows.jsonl"
    problems.write_text("".join(f'"{n} + 1"\n' for n in range(9)))
    command = ["sweep", str(problems), "--budgets", "0.2", "-o", str(kept), "--concurrency", "1"]
    handlers = [fake.error(404), fake.stream(*GOOD), fake.error(429, "no", retry_after="90")]
    with FakeServer(handlers) as server:
        assert run(*command, "--model", "m", "--base-url", server.url) == 1
        assert len(server.seen) == 3
    err = capsys.readouterr().err
    assert "The server asks to come back in 90 s" in err
    assert f"1 of 9 rows are in {kept}; the same command goes on" in err
