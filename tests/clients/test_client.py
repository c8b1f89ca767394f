"""Both clients against the real app over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from extracot_client import (
    AnswerDelta,
    AsyncExtracot,
    BadRequestError,
    ContextLengthError,
    Done,
    Event,
    Extracot,
    InvalidArgumentError,
    InvalidBudgetError,
    NotFoundError,
    ReasoningDelta,
    Solution,
)
from tests.clients.conftest import LiveServer

PROBLEM = "What is 12 * 12?"


def same(first: Solution, second: Solution) -> bool:
    """Equal but for what differs between two requests."""
    names = ("answer", "reasoning", "boxed", "report", "usage", "finish_reason", "model")
    return all(getattr(first, name) == getattr(second, name) for name in names)


def test_solve_gives_everything(live: LiveServer) -> None:
    with Extracot(live.url) as client:
        solution = client.solve(PROBLEM, budget=0.2)
    assert solution.reasoning and solution.answer
    assert solution.boxed is not None and f"\\boxed{{{solution.boxed}}}" in solution.answer
    report, usage = solution.report, solution.usage
    assert (report.requested, report.source, report.level) == (0.2, "budget", "0.2")
    assert report.control_token == "<COMP_20>" and report.calibrated is True
    assert report.reasoning_tokens == usage.reasoning_tokens and usage.reasoning_tokens
    assert report.baseline_tokens is not None and report.baseline_source == "card"
    saved = report.baseline_tokens - usage.reasoning_tokens
    assert report.saved_tokens_estimate == saved
    assert solution.finish_reason == "stop" and solution.model == "scripted"
    assert solution.request_id is not None and solution.request_id.startswith("req-")
    times = solution.timings
    assert times.ttft is not None and times.first_answer is not None
    assert 0 <= times.ttft <= times.first_answer <= times.total and times.retries == 0


def test_raw_is_the_body_of_an_unstreamed_reply(live: LiveServer) -> None:
    import httpx

    with Extracot(live.url) as client:
        raw = client.solve(PROBLEM, budget=0.4).raw
    body = {"messages": [{"role": "user", "content": PROBLEM}], "budget": 0.4}
    whole = httpx.post(f"{live.url}/v1/chat/completions", json=body, trust_env=False).json()
    assert raw["object"] == whole["object"] and raw["budget"] == whole["budget"]
    assert raw["usage"] == whole["usage"]
    message = {k: v for k, v in whole["choices"][0]["message"].items() if k != "refusal"}
    assert raw["choices"][0]["message"] == message


def test_a_stream_adds_up_to_its_solution(live: LiveServer) -> None:
    with Extracot(live.url) as client, client.stream(PROBLEM, budget="auto") as stream:
        assert stream.announced is not None and stream.announced["requested"] == "auto"
        events: list[Event] = list(stream)
        solution = stream.result()
    *deltas, done = events
    assert done == Done(solution) and stream.request_id == solution.request_id
    assert "".join(e.text for e in deltas if isinstance(e, ReasoningDelta)) == solution.reasoning
    assert "".join(e.text for e in deltas if isinstance(e, AnswerDelta)) == solution.answer
    assert solution.report.chosen in {"0.2", "0.4", "0.6", "0.8", "1.0"}
    assert solution.report.chosen_probability is not None


@pytest.mark.parametrize("budget", [None, 0.2, 1, "auto", "native", "none", {"ratio": 0.6}])
def test_every_form_of_budget(live: LiveServer, budget: object) -> None:
    with Extracot(live.url) as client:
        solution = client.solve(PROBLEM, budget=budget)  # type: ignore[arg-type]
    assert solution.report.requested == budget
    assert bool(solution.reasoning) == (budget != "none")


def test_the_twins_do_the_same(live: LiveServer) -> None:
    async def ask() -> tuple[Solution, list[Event], list[str], dict[str, object] | None]:
        async with AsyncExtracot(live.url) as client:
            async with client.stream(PROBLEM, budget=0.6) as stream:
                events = [event async for event in stream]
            models = [model.id for model in await client.models()]
            card = (await client.budget_card()).card
            return await client.solve(PROBLEM, budget=0.2), events, models, card

    solution, events, models, card = asyncio.run(ask())
    with Extracot(live.url) as client:
        assert same(solution, client.solve(PROBLEM, budget=0.2))
        with client.stream(PROBLEM, budget=0.6) as stream:
            assert [e for e in stream if not isinstance(e, Done)] == events[:-1]
        assert [model.id for model in client.models()] == models
        assert client.budget_card().card == card


def test_options_reach_the_server(live: LiveServer) -> None:
    with Extracot(live.url, model="scripted@0.4") as client:
        assert client.solve(PROBLEM).report.source == "alias"
        capped = client.solve(PROBLEM, model="scripted", budget=0.8, max_reasoning_tokens=3)
        assert capped.report.cap_hit and capped.usage.reasoning_tokens == 3
        short = client.solve(PROBLEM, model="scripted", max_tokens=8)
        assert short.finish_reason == "length" and short.usage.completion_tokens <= 8
        odd = client.solve(PROBLEM, extra={"nonsense": 1})
        assert odd.report.ignored_fields == ["nonsense"]
        talk = [
            {"role": "user", "content": "What is 2 + 2?"},
            {"role": "assistant", "content": "4"},
            {"role": "user", "content": "And twice that?"},
        ]
        assert client.solve(talk, system="Be brief.").report.calibrated is False


@pytest.mark.parametrize(
    ("options", "kind", "param"),
    [
        ({"budget": 1.2}, InvalidBudgetError, "budget"),
        ({"budget": True}, InvalidBudgetError, "budget"),
        ({"budget": {"ratio": 0.2, "fast": 1}}, InvalidBudgetError, "budget.fast"),
        ({"budget": {}}, InvalidBudgetError, "budget"),
        ({"model": "gpt-9"}, NotFoundError, "model"),
        ({"temperature": 9.0}, BadRequestError, "temperature"),
        ({"extra": {"tools": [{}]}}, BadRequestError, "tools[0].type"),
        ({"extra": {"buget": 0.2}}, BadRequestError, "buget"),
    ],
)
def test_refusals_are_typed(
    live: LiveServer, options: dict[str, object], kind: type[BadRequestError], param: str
) -> None:
    with Extracot(live.url) as client, pytest.raises(kind) as caught:
        client.solve(PROBLEM, **options)  # type: ignore[arg-type]
    error = caught.value
    assert error.param == param and error.request_id is not None and error.status in (400, 404)
    assert "\n" not in str(error)


def test_a_prompt_beyond_the_context(live: LiveServer) -> None:
    with Extracot(live.url) as client, pytest.raises(ContextLengthError):
        client.solve("word " * 6000)


@pytest.mark.parametrize(
    ("problem", "options"),
    [
        ("x", {"budget": float("nan")}),
        ("x", {"budget": {"ratio": object()}}),
        ("\udc80", {}),
        (7, {}),
        ("x", {"extra": {"n": 2}}),
        ("x", {"deadline": 0}),
    ],
)
def test_what_cannot_be_sent_is_not(problem: object, options: dict[str, object]) -> None:
    with Extracot("http://127.0.0.1:1") as client, pytest.raises(InvalidArgumentError):
        client.solve(problem, **options)  # type: ignore[arg-type]


def test_an_unknown_option_is_a_type_error() -> None:
    with Extracot() as client, pytest.raises(TypeError, match="unknown option 'tempreature'"):
        client.solve("x", tempreature=1)  # type: ignore[call-arg]


def test_leaving_a_stream_aborts_on_the_server(slow: LiveServer) -> None:
    with Extracot(slow.url) as client:
        with client.stream(PROBLEM) as stream:
            assert isinstance(next(iter(stream)), ReasoningDelta)
            slow.wait_until(lambda: slow.in_flight() == 1)
        slow.wait_until(lambda: slow.in_flight() == 0)
        assert list(stream) == []


def test_cancelling_a_task_aborts_on_the_server(slow: LiveServer) -> None:
    async def ask() -> None:
        async with AsyncExtracot(slow.url) as client:
            task = asyncio.create_task(client.solve(PROBLEM))
            await asyncio.to_thread(slow.wait_until, lambda: slow.in_flight() == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(ask())
    slow.wait_until(lambda: slow.in_flight() == 0)


def test_connections_are_used_again(live: LiveServer) -> None:
    with Extracot(live.url, max_connections=1) as client:
        for _ in range(3):
            client.solve(PROBLEM, budget="none")
        pool = client._http._transport._pool  # type: ignore[attr-defined]
        assert len(pool.connections) == 1 and pool.connections[0].is_idle()


def test_the_package_is_typed() -> None:
    import extracot_client

    assert extracot_client.__file__ is not None
    assert (Path(extracot_client.__file__).parent / "py.typed").exists()
