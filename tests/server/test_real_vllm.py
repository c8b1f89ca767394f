"""The real app on real vLLM: the bundled model in cap mode. The last test kills the engine."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from extracot_client import AnswerDelta, Done, Extracot, ReasoningDelta
from tests.deploy.promql import vllm_names
from tests.server.conftest import ASSUMED_TOKENS as ASSUMED
from tests.server.engine.running import engine_process
from tests.server.live import Live, collect, read_events, user

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

PROBLEM = "Natalia sold clips to 48 friends in April, and half as many in May. How many in total?"
MESSAGES: Any = user(PROBLEM)
BLOCK = 32  # tokens of the cache of keys and values
GREEDY: dict[str, Any] = {"messages": MESSAGES, "temperature": 0}
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def live(cap_vllm: Live) -> Live:
    """SmolLM2, with a short assumed baseline."""
    return cap_vllm


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[Extracot]:
    """Our own client of that server."""
    with Extracot(live.url) as made:
        yield made


@pytest.mark.parametrize("cap", [0, 1, 2, 12])
def test_a_hard_cap_is_obeyed_to_the_token(live: Live, cap: int) -> None:
    budget = {"ratio": 1, "max_reasoning_tokens": cap}
    reply = live.chat(messages=MESSAGES, budget=budget, n=3, seed=7, max_tokens=cap + 20)
    for choice in reply["choices"]:
        report, message = choice["budget"], choice["message"]
        assert report["reasoning_tokens"] <= cap
        if report["cap_hit"]:  # a character of several ids is never cut in two
            assert report["reasoning_tokens"] >= cap - 3
            assert report["closed_by"] == "server"
        assert message["content"]
        assert "think>" not in message["content"] or report["escaped"]  # spelled out by the model
        assert bool(message["reasoning"]) is (report["reasoning_tokens"] > 0)
    assert any(c["budget"]["cap_hit"] for c in reply["choices"]) is (cap > 0)
    used = sum(choice["budget"]["reasoning_tokens"] for choice in reply["choices"])
    assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] == used


def test_a_small_and_a_large_ratio_differ(live: Live) -> None:
    small = live.chat(**GREEDY, budget=0.2, max_tokens=140)["budget"]
    large = live.chat(**GREEDY, budget=0.8, max_tokens=140)["budget"]
    assert (small["max_reasoning_tokens"], large["max_reasoning_tokens"]) == (16, 64)
    assert small["reasoning_tokens"] <= 20 < large["reasoning_tokens"] <= 80  # with their grace
    assert (small["enforcement"], small["baseline_source"]) == ("cap", "assumed")
    assert small["saved_tokens_estimate"] is None


def test_a_closing_and_some_grace(live: Live) -> None:
    """The same text up to the cap, a little more of it, the closing, and an answer."""
    hard = live.chat(**GREEDY, budget={"ratio": 0.2, "enforce": "hard"}, max_tokens=140)
    assert (hard["budget"]["reasoning_tokens"], hard["budget"]["closing_tokens"]) == (16, 0)
    budget = {"ratio": 0.2, "grace": 40, "closing": "Time is up."}
    reply = live.chat(**GREEDY, budget=budget, max_tokens=140)
    report, message = reply["budget"], reply["choices"][0]["message"]
    assert report["grace_tokens"] == report["reasoning_tokens"] - 16 <= 40
    assert report["escaped"] in (True, False)
    begun = hard["choices"][0]["message"]["reasoning"]
    assert message["reasoning"].startswith(begun)
    assert message["reasoning"].endswith("\n\nTime is up.")
    assert message["content"]
    parts = sum(report[f"{part}_tokens"] for part in ("reasoning", "answer", "overhead"))
    assert parts == reply["usage"]["completion_tokens"] + report["injected_tokens"]


def test_the_answer_after_a_cap_reads_little_again(live: Live) -> None:
    """Its prompt is in the cache, but for a last block that is not full and what was written."""
    names = (
        "prefix_cache_queries_total",
        "prefix_cache_hits_total",
        "iteration_tokens_total_count",
    )
    live.chat(**GREEDY, max_tokens=1)  # the prompt is in the cache for the first request, too
    before = [live.metric_sum(f"vllm:{name}") for name in names]
    budget = {"ratio": 1, "max_reasoning_tokens": 64, "enforce": "hard"}
    reply = live.chat(**GREEDY, budget=budget, max_tokens=128, ignore_eos=True)
    after = [live.metric_sum(f"vllm:{name}") for name in names]
    asked, found, steps = (now - then for now, then in zip(after, before, strict=True))
    report, usage = reply["budget"], reply["usage"]
    assert report["cap_hit"] and report["reasoning_tokens"] > 60
    prompt, injected = usage["prompt_tokens"], report["injected_tokens"]
    assert asked >= 2 * prompt + report["reasoning_tokens"]
    assert asked - found <= 2 * BLOCK + injected
    # Beyond a step for each token: the one that was too many, and what runs until it is aborted.
    assert steps <= usage["completion_tokens"] + 4


def test_the_dashboards_names_of_vllms_metrics_are_exposed(live: Live) -> None:
    live.chat(**GREEDY, max_tokens=8)
    shown = {name for name, _ in live.metrics()}
    missing = {n for n in vllm_names() if not {n, f"{n}_count"} & shown}
    assert missing == set()


def test_native_and_none(live: Live) -> None:
    native = live.chat(**GREEDY, max_tokens=40)
    assert native["budget"]["level"] == "native"
    assert native["choices"][0]["message"]["content"]
    none = live.chat(**GREEDY, budget="none", max_tokens=40)
    assert none["choices"][0]["message"]["reasoning"] is None
    assert none["choices"][0]["message"]["content"]
    assert none["budget"]["reasoning_tokens"] == 0


@pytest.mark.parametrize("wanted", ["json_schema", "json_object"])
def test_json_after_a_capped_block(live: Live, wanted: str) -> None:
    form = {"type": wanted, "json_schema": {"name": "answer", "schema": SCHEMA}}
    if wanted == "json_object":
        form = {"type": wanted}
    # A model of this size likes to fill JSON with blanks; one of the seeds ends in time.
    for seed in range(8):
        reply = live.chat(
            messages=user("Reply in JSON with a key `answer`: what is 3 + 4?"),
            budget={"ratio": 1, "max_reasoning_tokens": 10},
            response_format=form,
            max_tokens=150,
            temperature=0.8,
            seed=seed,
        )
        choice = reply["choices"][0]
        assert choice["message"]["content"].lstrip().startswith("{")
        assert 0 < choice["budget"]["reasoning_tokens"] <= 10
        if choice["finish_reason"] == "stop":
            value = json.loads(choice["message"]["content"])
            assert isinstance(value, dict)
            assert wanted == "json_object" or isinstance(value["answer"], int)
            return
    raise AssertionError("no reply ended")


def test_streaming_through_the_openai_sdk(live: Live) -> None:
    whole = live.chat(**GREEDY, budget=0.3, max_tokens=50)
    content = reasoning = ""
    last: Any = None
    with live.openai() as client:
        for chunk in client.chat.completions.create(
            model="smollm2",
            messages=MESSAGES,
            temperature=0,
            max_tokens=50,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"budget": 0.3},
        ):
            last = chunk
            for choice in chunk.choices:
                content += choice.delta.content or ""
                reasoning += (choice.delta.model_extra or {}).get("reasoning") or ""
    message = whole["choices"][0]["message"]
    assert (content, reasoning) == (message["content"], message["reasoning"])
    assert last.usage.completion_tokens == whole["usage"]["completion_tokens"]
    assert last.model_extra["budget"] == whole["budget"]


def test_a_stream_through_our_client(client: Extracot) -> None:
    with client.stream(PROBLEM, budget=0.4, temperature=0, max_tokens=100) as stream:
        events = list(stream)
    (last,) = [event for event in events if isinstance(event, Done)]
    assert events[-1] is last
    solution = last.solution
    reasoning = [event.text for event in events if isinstance(event, ReasoningDelta)]
    answer = [event.text for event in events if isinstance(event, AnswerDelta)]
    assert ("".join(reasoning), "".join(answer)) == (solution.reasoning, solution.answer)
    assert len(reasoning) > 1 and answer
    tokens = solution.report.reasoning_tokens
    assert tokens is not None and 0 < tokens <= 1.25 * 0.4 * ASSUMED  # with its grace
    assert solution.report.baseline_source == "assumed"
    assert solution.report.saved_tokens_estimate is None
    assert 0 < (solution.timings.ttft or 0) <= (solution.timings.first_answer or 0)


def test_our_clients_sweep_over_two_budgets(client: Extracot) -> None:
    problems = [PROBLEM, "What is 12 * 3 + 4?"]
    rows = list(client.sweep(problems, [0.2, 0.8], temperature=0, max_tokens=100))
    assert len(rows) == 4 and all(row.error is None and row.answer for row in rows)
    spent = {
        budget: [row.reasoning_tokens or 0 for row in rows if row.budget == budget]
        for budget in (0.2, 0.8)
    }
    assert max(spent[0.2]) <= 0.25 * ASSUMED and max(spent[0.8]) <= ASSUMED  # with their grace
    assert sum(spent[0.2]) < sum(spent[0.8])


def test_logprobs_and_stop_are_the_answers(live: Live) -> None:
    fields = {**GREEDY, "budget": {"ratio": 1, "max_reasoning_tokens": 6}, "max_tokens": 30}
    choice = live.chat(**fields, logprobs=True, top_logprobs=2)["choices"][0]
    rows = choice["logprobs"]["content"]
    assert len(rows) == choice["budget"]["answer_tokens"]
    content = choice["message"]["content"]
    assert "".join(row["token"] for row in rows).strip() == content.strip()
    assert all(len(row["top_logprobs"]) == 2 and row["logprob"] <= 0 for row in rows)
    word = content.split()[2]
    stopped = live.chat(**fields, stop=[word])["choices"][0]
    assert stopped["message"]["content"] == content[: content.index(word)]
    assert stopped["message"]["reasoning"] == choice["message"]["reasoning"]


@pytest.mark.parametrize("stream", [True, False])
def test_leaving_aborts_in_the_engine(live: Live, stream: bool) -> None:
    aborted = live.metric_sum("extracot_requests_total", outcome="aborted")
    body = {"messages": MESSAGES, "stream": stream, "n": 2, "ignore_eos": True, "max_tokens": 900}
    if stream:
        with live.http.stream("POST", "/v1/chat/completions", json=body) as response:
            next(response.iter_lines())
            assert live.in_flight() > 0
    else:
        with live.openai() as client, pytest.raises(Exception, match="timed out"):
            client.with_options(timeout=1.0).chat.completions.create(
                model="smollm2", messages=MESSAGES, n=2, max_tokens=900, extra_body=body
            )
    live.wait_for(lambda: live.in_flight() == 0, 60)
    live.wait_for(
        lambda: live.metric_sum("extracot_requests_total", outcome="aborted") == aborted + 1
    )


def test_reports_sum_to_the_counters(live: Live) -> None:
    names = ("reasoning_tokens", "answer_tokens", "overhead_tokens")

    def counters() -> list[float]:
        return [live.metric_sum(f"extracot_{name}_total") for name in (*names, "prompt_tokens")]

    before = counters()
    replies = [
        live.chat(messages=MESSAGES, budget=budget, max_tokens=16, n=n, seed=1)
        for budget, n in ((0.2, 1), (0.5, 3), ("none", 1), (None, 2))
    ]
    reports = [choice["budget"] for reply in replies for choice in reply["choices"]]
    told = [sum(report[name] for report in reports) for name in names]
    prompts = sum(reply["usage"]["prompt_tokens"] for reply in replies)
    change = [new - old for new, old in zip(counters(), before, strict=True)]
    assert change == [*told, prompts]
    generated = sum(reply["usage"]["completion_tokens"] for reply in replies)
    assert sum(told) == generated + sum(report["injected_tokens"] for report in reports)


def test_what_vllm_refuses_is_a_400(live: Live) -> None:
    response = live.post(messages=MESSAGES, logit_bias={"49999999": 1}, max_tokens=5)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert (error["param"], error["type"]) == ("logit_bias", "invalid_request_error")
    assert live.http.get("/ready").status_code == 200


def test_vllms_own_metrics_are_beside_ours(live: Live) -> None:
    names = {name for name, _ in live.metrics()}
    assert "vllm:generation_tokens_total" in names
    assert "extracot_requests_total" in names
    assert not any(name.startswith("python_") for name in names)
    # This process's are ours: vLLM's registry has some, too.
    text = live.http.get("/metrics").text.splitlines()
    assert sum(line.startswith("process_cpu_seconds_total ") for line in text) == 1


@pytest.mark.kills
def test_a_killed_engine_is_a_503_and_ends_running_streams(live: Live) -> None:
    body = {"messages": MESSAGES, "stream": True, "ignore_eos": True, "max_tokens": 900}
    with live.http.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        first = next(lines)
        os.kill(engine_process(live.engine), signal.SIGKILL)
        events = read_events(first + "\n" + "\n".join(lines) + "\n")
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["error"]["code"] == "engine_unavailable"
    assert "finish_reason" not in collect([json.loads(event) for event in events[:-2]])
    live.wait_for(lambda: live.http.get("/ready").status_code == 503)
    after = live.post(messages=MESSAGES)
    assert (after.status_code, after.json()["error"]["code"]) == (503, "engine_unavailable")
    assert live.http.get("/health").status_code == 200
    assert live.metric_sum("extracot_engine_up") == 0
    assert live.metric_sum("extracot_requests_total", outcome="error") >= 1
