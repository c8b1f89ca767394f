"""What /metrics says of a card and of the holdout, for queries that hold traffic against them."""

from __future__ import annotations

from typing import Any

import pytest

from extracot.card import BudgetCard
from extracot_server.engine.scripted.engine import scripted_card
from extracot_server.generation.report import expected_share
from extracot_server.observability.metrics import policy_varies
from tests.server.live import Live, serve, user

TOKENS = {"p50": 0.0, "p90": 1e6}


def bins(*means: float) -> list[dict[str, Any]]:
    """Bins of two prompt lengths, of 10 and 30 problems."""
    summary = [{"mean": mean, **TOKENS} for mean in means]
    return [
        {"max_prompt_tokens": limit, "n": n, "reasoning": one, "answer": one}
        for limit, n, one in zip((64, None), (10, 30), summary, strict=True)
    ]


def card_with(**fields: Any) -> BudgetCard:
    """The scripted card with other fields."""
    return BudgetCard.model_validate({**scripted_card().model_dump(), **fields})


def test_a_cards_ratios_are_converted_to_the_native_baseline() -> None:
    baseline = {"native": bins(100.0, 200.0), "full": bins(80.0, 160.0)}
    card = card_with(baseline=baseline)
    level = card.level("0.4")
    assert level.realised is not None
    assert expected_share(card, level) == pytest.approx(level.realised.mean * 0.8)


@pytest.mark.parametrize(
    "baseline", [None, {"native": bins(100.0, 200.0)}, {"full": bins(100.0, 200.0)}]
)
def test_where_a_card_cannot_convert_its_ratios_stand(baseline: dict[str, Any] | None) -> None:
    card = card_with(baseline=baseline)
    level = card.level("0.4")
    assert level.realised is not None
    assert expected_share(card, level) == level.realised.mean
    assert card.policy is not None
    assert expected_share(card, card.policy) is None


def test_the_card_is_shown(token_server: Live, cap_server: Live) -> None:
    for level in scripted_card().levels:
        assert level.realised is not None and level.accuracy is not None
        labels = {"model": "scripted", "budget": level.name}
        shown = token_server.metric_sum("extracot_card_expected_ratio", **labels)
        assert shown == pytest.approx(level.realised.mean)
        assert token_server.metric_sum("extracot_card_accuracy", **labels) == level.accuracy.mean
    assert not any(name.startswith("extracot_card") for name, _ in cap_server.metrics())


@pytest.mark.parametrize(("share", "varies"), [(0.5, True), (0.42, False), (None, False)])
def test_whether_the_policy_is_more_than_one_level(share: float | None, varies: bool) -> None:
    card = scripted_card()
    level = card.level("0.4")
    assert card.policy is not None and level.realised is not None
    realised = share and {"mean": share, "p10": 0.1, "p90": 0.9}
    policy = {**card.policy.model_dump(), "realised": realised}
    assert abs(level.realised.mean - 0.4) < 0.01
    assert policy_varies(card_with(policy=policy)) is varies
    assert not policy_varies(card_with(policy=None))


def test_the_policys_kind_is_shown(token_server: Live) -> None:
    labels = {"model": "scripted"}
    name = "extracot_card_policy_varies"
    assert (name, frozenset(labels.items())) in token_server.metrics()
    assert token_server.metric_sum(name) == 0, "the scripted card's policy was not measured"


def test_the_holdouts_mean_and_variance_can_be_had_from_counters() -> None:
    """So that several servers, and any span of time, can be taken together."""
    with serve(holdout_fraction=0.5, holdout_seed=1) as live:
        for number in range(60):
            live.chat(messages=user(f"Problem {number}"), budget=0.4)
        live.chat(messages=user("cut short"), budget=0.4, max_tokens=8)
        holdout = live.http.get("/v1/budget").json()["holdout"]
        means: dict[str, float] = {}
        for arm in ("budgeted", "holdout"):
            n, total, squares = (
                live.metric_sum(f"extracot_holdout_{name}_total", arm=arm)
                for name in ("replies", "reasoning_tokens", "reasoning_tokens_squared")
            )
            said = holdout["arms"][arm]
            means[arm] = total / n
            assert n == said["requests"]
            assert means[arm] == pytest.approx(said["mean_reasoning_tokens"])
            moments = live.app.state.extracot.services["scripted"].holdout.arms[arm]
            assert (squares - n * means[arm] ** 2) / (n - 1) == pytest.approx(moments.variance)
        saving = live.metric_sum("extracot_holdout_saving_tokens")
        assert saving == pytest.approx(means["holdout"] - means["budgeted"])


@pytest.mark.parametrize(("settings", "budget"), [({}, "0.4"), ({"card": "none"}, "cap")])
def test_savings_begin_at_zero(settings: dict[str, Any], budget: str) -> None:
    """So that a query sees the increase of the very first request."""
    with serve(**settings) as live:
        samples = live.metrics()
        for name in ("baseline_tokens", "tokens_saved", "tokens_overspent"):
            labels = frozenset({("model", "scripted"), ("budget", budget)})
            assert samples[f"extracot_{name}_total", labels] == 0
        assert live.chat(budget=0.4)["budget"]["level"] == budget
