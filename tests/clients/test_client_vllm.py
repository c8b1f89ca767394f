"""The client against the real app on real vLLM: a stream, and a sweep over two budgets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from extracot_client import AnswerDelta, Done, Extracot, ReasoningDelta
from extracot_server.bundled import resolve_model
from extracot_server.engine.vllm import VllmEngine
from tests.server.live import serve

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

PROBLEM = "Natalia sold clips to 48 friends in April, and half as many in May. How many in total?"
ASSUMED = 80


@pytest.fixture(scope="module")
def client() -> Iterator[Extracot]:
    """A client of SmolLM2 in cap mode, with a short assumed baseline so that it is quick."""
    engine = VllmEngine(
        str(resolve_model("smollm2")), engine_args={"max_model_len": 1024}, shutdown_grace=1.0
    )
    settings = {"engine": "vllm", "model": "smollm2", "assumed_reasoning_tokens": ASSUMED}
    with serve(on=engine, **settings) as running, Extracot(running.url) as made:
        yield made


def test_a_stream(client: Extracot) -> None:
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
    assert tokens is not None and 0 < tokens <= 0.4 * ASSUMED
    assert solution.report.baseline_source == "assumed"
    assert solution.report.saved_tokens_estimate is None
    assert 0 < (solution.timings.ttft or 0) <= (solution.timings.first_answer or 0)


def test_a_sweep_over_two_budgets(client: Extracot) -> None:
    problems = [PROBLEM, "What is 12 * 3 + 4?"]
    rows = list(client.sweep(problems, [0.2, 0.8], temperature=0, max_tokens=100))
    assert len(rows) == 4 and all(row.error is None and row.answer for row in rows)
    spent = {
        budget: [row.reasoning_tokens or 0 for row in rows if row.budget == budget]
        for budget in (0.2, 0.8)
    }
    assert max(spent[0.2]) <= 0.2 * ASSUMED and max(spent[0.8]) <= 0.8 * ASSUMED
    assert sum(spent[0.2]) < sum(spent[0.8])
