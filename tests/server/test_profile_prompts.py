"""What a prompt tells the model of its budget is what is enforced: real templates, the real app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_server.budget.resolve import (
    BudgetKind,
    BudgetPolicy,
    BudgetSources,
    ResolvedBudget,
    resolve_budget,
)
from extracot_server.budget.telling import told, told_tokens
from extracot_server.budget.values import BudgetSpec
from extracot_server.config.effort_map import DEFAULT_EFFORT_MAP
from extracot_server.profiles.profile import Profile
from extracot_server.profiles.profile_file import built_in
from tests.fixtures.saying_engine import SayingEngine
from tests.fixtures.template_tokenizer import template_tokenizer, trl_templates
from tests.server.live import Live, serve, user

TRL = trl_templates()
FAMILIES = {profile.name: profile for profile in built_in()}


@contextmanager
def serving(name: str, **settings: Any) -> Iterator[Live]:
    """A server on one of trl's templates whose model thinks for 3,000 tokens."""
    engine = SayingEngine(template_tokenizer(TRL[name]), lambda request: engine.ids("so " * 1000))
    with serve(on=engine, card="none", **settings) as live:
        yield live


def own_prompt(live: Live, **variables: Any) -> str:
    """The template's own prompt."""
    tokenizer = live.engine.tokenizer
    turns = user()
    return str(
        tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, **variables
        )
    )


def asked(live: Live, **fields: Any) -> tuple[str, dict[str, Any]]:
    """What the engine was asked to go on from first, and the report."""
    before = len(live.engine.requests)
    report = live.chat(**{"max_tokens": 8000, **fields})["budget"]
    return live.engine.prompt(live.engine.requests[before]), report


@pytest.fixture(scope="module")
def qwen3() -> Iterator[Live]:
    with serving("qwen3") as live:
        yield live


@pytest.fixture(scope="module")
def qwen38() -> Iterator[Live]:
    with serving("qwen3_8") as live:
        yield live


@pytest.fixture(scope="module")
def gpt_oss() -> Iterator[Live]:
    with serving("gptoss") as live:
        yield live


def test_none_is_the_templates_own_off_form(qwen3: Live) -> None:
    prompt, report = asked(qwen3, budget="none")
    assert prompt == own_prompt(qwen3, enable_thinking=False)
    assert report["max_reasoning_tokens"] == 0
    with serving("nemotron_3_nano") as live:
        prompt, _ = asked(live, budget="none")
        assert prompt == own_prompt(live, enable_thinking=False)
        assert prompt.endswith("<think></think>")


def test_native_reasons_where_the_template_does_not_by_default() -> None:
    with serving("qwen3_5_nothink") as live:
        on = own_prompt(live, enable_thinking=True)
        assert on != own_prompt(live)
        assert asked(live)[0] == own_prompt(live)  # who says nothing gets the template's own
        for fields in ({"budget": "native"}, {"enable_thinking": True}, {"budget": 0.2}):
            assert asked(live, **fields)[0] == on
    with serving("qwen3_5_nothink", default_budget="none") as live:
        assert asked(live)[0] == own_prompt(live)


def test_an_effort_is_no_small_cap(qwen3: Live) -> None:
    prompt, report = asked(qwen3, reasoning_effort="high")
    baseline = FAMILIES["qwen3"].baseline
    assert baseline is not None and baseline >= 4000
    assert report["max_reasoning_tokens"] == round(0.8 * baseline)
    assert (report["baseline_source"], report["saved_tokens_estimate"]) == ("assumed", None)
    assert prompt == own_prompt(qwen3, enable_thinking=True) + "<think>\n"


@pytest.mark.parametrize("effort", ["low", "medium", "high"])
def test_an_effort_that_the_template_takes_is_told_and_caps(gpt_oss: Live, effort: str) -> None:
    prompt, report = asked(gpt_oss, reasoning_effort=effort)
    assert prompt.startswith(own_prompt(gpt_oss, reasoning_effort=effort))
    assert f"Reasoning: {effort}" in prompt
    ratio = DEFAULT_EFFORT_MAP[effort]
    assert isinstance(ratio, float)
    assert report["max_reasoning_tokens"] == round(ratio * 4096)


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({}, "xhigh"),  # the template's own
        ({"budget": "native"}, "xhigh"),
        ({"budget": 0.2}, "low"),
        ({"budget": 0.7}, "medium"),
        ({"budget": 1.0}, "xhigh"),
        ({"budget": {"max_reasoning_tokens": 700}}, "low"),
        ({"budget": {"max_reasoning_tokens": 7000}}, "xhigh"),
        ({"reasoning_effort": "low"}, "low"),
        ({"reasoning_effort": "xhigh"}, "xhigh"),
        ({"reasoning_effort": "minimal"}, "low"),  # the template does not take it
        ({"reasoning_effort": "high"}, "medium"),
        ({"reasoning_effort": "max"}, "xhigh"),
        # What narrows an effort speaks for itself.
        ({"reasoning_effort": "xhigh", "budget": {"max_reasoning_tokens": 400}}, "low"),
    ],
)
def test_a_cap_is_told_as_the_nearest_effort(
    qwen38: Live, fields: dict[str, Any], effort: str
) -> None:
    wanted = own_prompt(qwen38, reasoning_effort=effort)
    assert asked(qwen38, **fields)[0] == wanted


def test_the_settings_beat_the_profile(tmp_path: Path) -> None:
    settings = {"assumed_reasoning_tokens": 1000, "reasoning_effort_map": "high=0.3"}
    with serving("gptoss", **settings) as live:
        prompt, report = asked(live, reasoning_effort="high")
        assert report["max_reasoning_tokens"] == 300
        assert "Reasoning: high" in prompt  # which means 0.3 here, and so does it for the model
        told_of = live.http.get("/v1/budget").json()
        assert told_of["baseline"]["assumed_by"] == "setting"
        assert told_of["profile"]["baseline"]["tokens"] == 4096
    with serving("gptoss", budget_ceiling=0.4) as live:
        prompt, report = asked(live, reasoning_effort="high")
        assert (report["applied_ratio"], "Reasoning: low" in prompt) == (0.4, True)
    with serving("gptoss", reasoning_tokens_ceiling=500) as live:
        assert "Reasoning: low" in asked(live)[0]
    with serving("qwen3", think_start="<a>", think_end="<b>", profile="none") as live:
        found = live.http.get("/v1/budget").json()
        assert (found["profile"]["name"], found["profile"]["tags"]["end"]) == ("unknown", "<b>")
        assert found["baseline"]["assumed_reasoning_tokens"] == 512
    with serving("qwen3", think_start="<a>") as live:
        found = live.http.get("/v1/budget").json()["profile"]
        assert (found["name"], found["tags"]["start"]) == ("qwen3", "<a>")
        assert found["tags"]["end"] == "</think>"


SEED = (
    "{%- if thinking_budget is not defined %}{% set thinking_budget = -1 %}{% endif -%}"
    "{% if thinking_budget > 0 %}<seed:bos>system\nYou may use {{ thinking_budget }} tokens."
    "<seed:eos>{% endif %}{% for m in messages %}<seed:bos>{{ m.role }}\n{{ m.content }}<seed:eos>"
    "{% endfor %}<seed:bos>assistant\n{% if thinking_budget == 0 %}<seed:think></seed:think>"
    "{% endif %}"
)


def test_a_template_that_takes_tokens_is_told_the_cap() -> None:
    """As Seed-OSS's does."""
    tags = ("<seed:think>", "</seed:think>", "<seed:bos>", "<seed:eos>")
    tokenizer = template_tokenizer(SEED, more=tags)
    engine = SayingEngine(tokenizer, lambda _: engine.ids("so " * 1000), model_type="seed_oss")
    with serve(on=engine, card="none", loop_tokens=0, grace_tokens=0) as live:
        assert live.http.get("/v1/budget").json()["profile"]["name"] == "seed-oss"
        assert "You may use" not in asked(live)[0]
        assert "You may use" not in asked(live, budget="native")[0]
        prompt, report = asked(live, budget=0.5)
        assert f"You may use {report['max_reasoning_tokens']} tokens." in prompt
        assert report["max_reasoning_tokens"] == 2048
        assert 2040 <= report["reasoning_tokens"] <= 2048
        prompt, report = asked(live, budget={"max_reasoning_tokens": 90})
        assert "You may use 90 tokens." in prompt
        assert report["max_reasoning_tokens"] == 90
        # What there is room for is what is told.
        prompt, report = asked(live, budget=0.5, max_tokens=600)
        assert (report["max_reasoning_tokens"], report["cap_reason"]) == (344, "room")
        assert "You may use 344 tokens." in prompt
        # Also where telling it takes of the room: 16,384 tokens, less question and reserve.
        text = "x" * 14_000
        prompt, report = asked(live, messages=user(text), budget=1.0, max_tokens=None)
        assert f"You may use {report['max_reasoning_tokens']} tokens." in prompt
        assert report["cap_reason"] == "room"
        tokens = {"messages": user(), "budget": 0.5}
        asked_ids = live.http.post("/v1/tokenize", json=tokens).json()["tokens"]
        assert "You may use 2048 tokens." in live.engine.tokenizer.decode(asked_ids)
        assert asked(live, budget="none")[0].endswith("<seed:think></seed:think>")
        # With room for an answer alone there is nothing to tell, and no reasoning.
        for budget in (0.5, {"max_reasoning_tokens": 90}):
            prompt, report = asked(live, budget=budget, max_tokens=1)
            assert prompt.endswith("<seed:think></seed:think>")
            assert (report["max_reasoning_tokens"], report["cap_reason"]) == (0, "room")


def test_a_card_keeps_the_prompt_of_its_training(tmp_path: Path) -> None:
    from tests.extracot.families import FAMILIES as CARDS
    from tests.fixtures.family_engine import FamilyEngine

    family = CARDS["deepseek-r1, the template opens"]
    family.card().save(tmp_path)
    with serve(on=FamilyEngine(family), card=str(tmp_path)) as live:
        found = live.http.get("/v1/budget").json()["profile"]
    assert (found["name"], found["switches"], found["efforts"]) == ("deepseek-r1", {}, [])


def test_models_and_budget_show_the_profile(qwen38: Live, cap_server: Live) -> None:
    shown = qwen38.http.get("/v1/budget").json()["profile"]
    assert shown["name"] == "qwen3.8"
    assert shown["tags"] == {"start": "<think>", "end": "</think>", "single_tokens": True}
    assert shown["efforts"] == ["low", "medium", "xhigh"]
    assert shown["switches"] == {"enable_thinking": {"on": True, "off": False}}
    assert (shown["keeps_reasoning"], shown["baseline"]["tokens"]) == ("always", 4096)
    assert shown["closing"] and shown["source"] and shown["baseline"]["source"]
    entries = qwen38.http.get("/v1/models").json()["data"]
    assert all(entry["budget"]["profile"] == shown for entry in entries)
    unknown = cap_server.http.get("/v1/budget").json()
    assert unknown["profile"]["name"] == "unknown"
    assert unknown["profile"]["baseline"] is None


EFFORTFUL = [profile for profile in FAMILIES.values() if profile.efforts]
BUDGETS = st.one_of(
    st.none(),
    st.floats(0.01, 1).map(lambda ratio: BudgetSpec(ratio, given=ratio)),
    st.sampled_from(["native", "none"]).map(lambda word: BudgetSpec(word, given=word)),
    st.integers(1, 9999).map(lambda n: BudgetSpec(max_reasoning_tokens=n, given={})),
)


@given(
    profile=st.sampled_from(EFFORTFUL),
    budget=BUDGETS,
    effort=st.none() | st.sampled_from(list(DEFAULT_EFFORT_MAP)),
    ceiling=st.none() | st.sampled_from([0.2, 0.6]),
)
def test_no_smaller_cap_is_told_a_larger_effort(
    profile: Profile, budget: BudgetSpec | None, effort: str | None, ceiling: float | None
) -> None:
    """For any two caps of one request, and off is off."""
    policy = BudgetPolicy(efforts=DEFAULT_EFFORT_MAP, assumed_baseline=4096, ceiling=ceiling)  # type: ignore[arg-type]
    resolved = resolve_budget(BudgetSources(budget, None, effort), None, policy)
    values = told(profile, resolved, policy)
    if resolved.kind is BudgetKind.NONE:
        assert values == {n: s.off for n, s in profile.switches.items() if s.off is not None}
        return
    rank = {str(profile.told_effort(e)): at for at, e in enumerate(profile.efforts)}
    ranks = []
    for ratio in (0.05, 0.3, 0.5, 0.7, 0.9, 1.0):
        capped = ResolvedBudget(BudgetKind.CAP, "budget", ratio, applied_ratio=ratio)
        switches = told(profile, capped, policy)
        own = {k: v for k, v in switches.items() if k not in profile.switches}
        found = rank.get(str(own))
        if found is None:  # the same variable turns reasoning on
            found = rank[str({k: v for k, v in switches.items() if k == "reasoning_effort"})]
        ranks.append(found)
    assert ranks == sorted(ranks) and ranks[0] == 0
    assert told_tokens(profile, resolved, 100) == {}
