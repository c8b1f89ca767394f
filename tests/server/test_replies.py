"""Whatever the model does and whatever is asked: no reply breaks a cap, a limit or its accounts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from extracot.prompt import Message
from extracot.reasoning import Part
from extracot_server.budget.resolve import BudgetKind, BudgetSources
from extracot_server.budget.values import parse_budget
from extracot_server.config.settings import Settings
from extracot_server.engine.base import AnswerFormat, SamplingParams
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine
from extracot_server.errors import BudgetError
from extracot_server.generation.events import ChoiceDone, Delta, Finished
from extracot_server.generation.prepare import render_only
from extracot_server.generation.request import ChatRequest, ServedModel
from extracot_server.generation.service import ChatService
from extracot_server.model_registry.loading import serve_model
from extracot_server.observability.metrics import ServerMetrics
from extracot_server.observability.observer import ServerObserver
from tests.examples import examples

BEHAVIOURS = st.builds(
    ScriptedBehaviour,
    tokens_per_delta=st.sampled_from([1, 2, 5, 40]),
    eos_in_reasoning=st.none() | st.integers(0, 30),
    never_close=st.booleans(),
    opens_think=st.booleans(),
    tags_as_text=st.booleans(),
    template_opens_think=st.booleans(),
    max_model_len=st.sampled_from([160, 300, 4096]),
)
CAPS = st.none() | st.integers(0, 40)
TARGETS = st.sampled_from([None, "auto", "native", "none", 0.05, 0.2, 0.5, 1.0])
BUDGETS = st.tuples(TARGETS, CAPS, st.sampled_from(["soft", "hard"]))
REQUESTS = st.builds(
    ChatRequest,
    request_id=st.just("r"),
    messages=st.text("abc ≈?", min_size=1, max_size=12).map(lambda t: (Message("user", f"Q{t}"),)),
    sampling=st.builds(
        SamplingParams,
        temperature=st.sampled_from([None, 0.0, 1.0]),
        seed=st.none() | st.integers(0, 9),
        logprobs=st.sampled_from([None, 0, 2]),
        min_tokens=st.sampled_from([0, 0, 5]),
        ignore_eos=st.sampled_from([False, False, True]),
    ),
    n=st.integers(1, 3),
    max_tokens=st.sampled_from([None, 1, 2, 3, 5, 8, 13, 40, 100]),
    stops=st.sampled_from([(), ("boxed",), ("The", "answer is"), (" ",)]),
    answer_format=st.sampled_from([None, None, AnswerFormat("json_object")]),
)

REQUEST = ChatRequest(request_id="r", messages=(Message("user", "Q?"),))


async def run(service: ChatService, asked: ChatRequest) -> tuple[list[Any], Any]:
    """All events of a request, and the prepared one."""
    chat = service.prepare(asked)
    return [event async for event in service.run(chat)], chat


def served(behaviour: ScriptedBehaviour, card: str, *, reserve: bool) -> ServedModel:
    """A model in cap mode (``none``) or token mode; its card may know less than it should."""
    chosen: dict[str, Any] = {}
    if card == "none":
        chosen |= {"card": "none", "assumed_reasoning_tokens": 40}
    if not reserve:
        chosen["answer_reserve_tokens"] = 3
    engine = ScriptedEngine(behaviour)
    asyncio.run(engine.start())
    model = serve_model(Settings(engine="scripted", **chosen), engine)
    if model.card is None or card == "whole":
        return model
    assert model.card.baseline is not None
    shortest = model.card.baseline.native[0].model_copy(update={"max_prompt_tokens": 38})
    baseline = model.card.baseline.model_copy(update={"native": [shortest]})
    left = baseline if card == "short prompts only" else None
    return replace(model, card=model.card.model_copy(update={"baseline": left}))


def cannot_be_enforced(service: ChatService, asked: ChatRequest, value: dict[str, Any]) -> bool:
    """A ratio is to be a hard cap, and the card cannot say what it is in tokens."""
    card, ratio = service.model.card, value["ratio"]
    if value["enforce"] != "hard" or card is None or value["max_reasoning_tokens"] == 0:
        return False
    if ratio in (None, "native", "none"):
        return False
    soft = replace(asked, budget=BudgetSources(parse_budget(ratio)))
    length = len(render_only(service.model, soft).prompt_ids)
    return card.baseline is None or card.baseline.native_for(length) is None


@examples(300)
@given(
    behaviour=BEHAVIOURS,
    budget=BUDGETS,
    asked=REQUESTS,
    card=st.sampled_from(["none", "none", "whole", "whole", "short prompts only", "no baseline"]),
    reserve=st.booleans(),
)
@example(ScriptedBehaviour(), (0.5, None, "hard"), replace(REQUEST, max_tokens=1), "none", True)
@example(ScriptedBehaviour(), (None, 7, "hard"), REQUEST, "none", True)
@example(ScriptedBehaviour(), ("none", None, "hard"), REQUEST, "no baseline", True)
@example(ScriptedBehaviour(), ("auto", None, "hard"), REQUEST, "no baseline", True)
@example(ScriptedBehaviour(), (0.2, None, "hard"), REQUEST, "short prompts only", True)
def test_no_reply_breaks_its_limits(
    behaviour: ScriptedBehaviour,
    budget: tuple[Any, int | None, str],
    asked: ChatRequest,
    card: str,
    reserve: bool,
) -> None:
    """The one request that is refused: a hard ratio where the card has no baseline for it."""
    if behaviour.tags_as_text:
        card = "none"
    target, cap, enforce = budget
    if card == "none" and target == "auto":
        target = 0.5
    value = {"ratio": target, "max_reasoning_tokens": cap, "enforce": enforce}
    said = target is not None or cap is not None
    asked = replace(asked, budget=BudgetSources(parse_budget(value) if said else None))
    limit = asked.max_tokens or behaviour.max_model_len
    asked = replace(asked, sampling=replace(asked.sampling, min_tokens=min(5, limit)))
    service = ChatService(
        served(behaviour, card, reserve=reserve), ServerObserver(ServerMetrics(CollectorRegistry()))
    )
    if said and cannot_be_enforced(service, asked, value):
        with pytest.raises(BudgetError) as refused:
            service.prepare(asked)
        assert refused.value.param == "budget.enforce"
        return
    events, chat = asyncio.run(run(service, asked))

    *before, end = events
    assert isinstance(end, Finished)
    done = {event.index: event for event in before if isinstance(event, ChoiceDone)}
    assert sorted(done) == list(range(asked.n))
    assert end.usage.completion_tokens <= asked.n * limit
    total = end.usage.prompt_tokens
    for index, choice in done.items():
        report = choice.report
        deltas = [e for e in before if isinstance(e, Delta) and e.index == index]
        reasoning = "".join(d.text for d in deltas if d.part is Part.REASONING)
        answer = "".join(d.text for d in deltas if d.part is Part.ANSWER)
        generated = (
            report.reasoning_tokens
            + report.answer_tokens
            + report.overhead_tokens
            - report.injected_tokens
        )
        assert 0 < generated <= limit
        assert total + generated + report.injected_tokens <= behaviour.max_model_len + 1
        assert report.max_reasoning_tokens is not None
        assert report.reasoning_tokens <= report.max_reasoning_tokens + report.grace_tokens
        assert report.grace_tokens <= 32 and (enforce == "soft" or not report.grace_tokens)
        assert cap is None or report.reasoning_tokens <= cap
        if chat.resolved.kind is BudgetKind.NONE:
            assert report.reasoning_tokens == 0 and not reasoning
        assert bool(reasoning) <= (report.reasoning_tokens > 0)
        assert "</think>" not in reasoning
        if not asked.stops and limit > 4:
            assert answer, "reasoning ate the answer"
        assert not any(stop in answer for stop in asked.stops)
        logprobs = [item for d in deltas for item in d.logprobs]
        assert (asked.sampling.logprobs is None) <= (not logprobs)
        assert len(logprobs) <= report.answer_tokens
        assert choice.finish_reason in ("stop", "length")
        if report.saved_tokens_estimate is not None:
            assert card != "none" and choice.finish_reason == "stop" and not report.unclosed
        parts = [d.part for d in deltas]
        assert parts == sorted(parts, reverse=True), "reasoning comes first"
    assert asyncio.run(service.model.runtime.engine.in_flight()) == 0
