"""A measured card in use: levels by cap and by effort, what is dominated, what is reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extracot.errors import CardError
from extracot_server.config.settings import Settings
from extracot_server.engine.scripted.engine import ScriptedEngine
from extracot_server.model_registry.family import profile_of
from tests.measured_card import card, card_data
from tests.server.live import Live, serve, user

LONG = "What is 12 * 3 + 4? " * 20


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    file = card().save_as(tmp_path_factory.mktemp("card") / "measured.json")
    with serve(card=str(file)) as live:
        yield live


def report(live: Live, budget: Any, text: str = "What is 12 * 3 + 4?", **more: Any) -> Any:
    return live.chat(messages=user(text), budget=budget, **more)["budget"]


def test_a_ratio_is_a_measured_level_by_its_cap(measured: Live) -> None:
    found = report(measured, 0.4)
    assert (found["level"], found["expected_ratio"], found["applied_ratio"]) == ("0.4", 0.38, 0.4)
    assert (found["enforcement"], found["control_token"]) == ("cap", None)
    assert (found["max_reasoning_tokens"], found["cap_reason"]) == (40, "budget")
    assert (found["baseline_tokens"], found["baseline_source"]) == (100.0, "card")
    assert found["calibrated"] and found["cap_hit"]
    assert found["reasoning_tokens"] == 40 + found["grace_tokens"] <= 50
    assert found["saved_tokens_estimate"] == 100 - found["reasoning_tokens"]


def test_the_cap_goes_with_the_length_of_the_prompt(measured: Live) -> None:
    assert report(measured, 0.4, LONG)["max_reasoning_tokens"] == 80
    assert report(measured, 0.4, LONG)["baseline_tokens"] == 200.0


def test_no_ratio_is_served_by_a_dominated_level(measured: Live) -> None:
    assert report(measured, 0.6)["level"] == "0.4"
    named = report(measured, {"level": "0.6"})
    assert (named["level"], named["max_reasoning_tokens"]) == ("0.6", 60)
    assert (named["applied_ratio"], named["expected_ratio"]) == (None, 0.55)
    assert named["requested"] == {"level": "0.6"}


def test_an_alias_of_a_dominated_level_is_the_ratio_and_is_not_listed(measured: Live) -> None:
    found = measured.chat(model="scripted@0.6")["budget"]
    assert (found["level"], found["applied_ratio"], found["source"]) == ("0.4", 0.6, "alias")
    names = [entry["id"] for entry in measured.http.get("/v1/models").json()["data"]]
    assert "scripted@0.6" not in names and {"scripted@0.2", "scripted@1.0"} <= set(names)


def test_an_effort_is_not_capped_unless_it_is_to_be_hard(measured: Live) -> None:
    soft = report(measured, 0.3)
    assert (soft["level"], soft["enforcement"], soft["cap_reason"]) == ("low", "effort", "room")
    assert soft["calibrated"] and not soft["cap_hit"] and soft["closed_by"] == "model"
    hard = report(measured, {"ratio": 0.3, "enforce": "hard"})
    assert (hard["level"], hard["enforcement"]) == ("low", "effort+cap")
    assert hard["max_reasoning_tokens"] == 48  # 0.3 of the 90th percentile


def test_a_hard_ratio_is_within_the_levels_cap_and_the_percentile(measured: Live) -> None:
    assert report(measured, {"ratio": 0.4, "enforce": "hard"})["max_reasoning_tokens"] == 40
    assert report(measured, {"ratio": 0.05, "enforce": "hard"})["max_reasoning_tokens"] == 8


def test_none_native_and_tokens_are_as_ever(measured: Live) -> None:
    assert report(measured, "none")["reasoning_tokens"] == 0
    native = report(measured, "native")
    assert (native["level"], native["cap_reason"]) == ("native", "room")
    capped = report(measured, {"level": "1.0", "max_reasoning_tokens": 7})
    assert (capped["reasoning_tokens"], capped["cap_reason"]) == (7, "client")
    assert report(measured, {"level": "1.0", "max_reasoning_tokens": 0})["level"] == "none"


def test_the_model_page_shows_the_levels(measured: Live) -> None:
    page = measured.http.get("/v1/budget").json()
    assert (page["mode"], page["baseline"]["source"]) == ("cap", "card")
    assert "auto" not in page["allowed"]
    told = {level["name"]: level for level in page["levels"]}
    assert told["0.6"]["dominated_by"] == "0.4" and told["0.4"]["dominated_by"] is None
    assert (told["low"]["effort"], told["low"]["ratio"]) == ("low", None)
    assert (told["0.4"]["enforced_by"], told["0.4"]["accuracy"]) == ("cap", 0.8)
    assert page["prompt"]["instruction"] == "Think."
    assert page["prompt"]["tokenizer_hash"] == page["card"]["tokenizer_hash"]
    names = [entry["id"] for entry in measured.http.get("/v1/models").json()["data"]]
    assert "scripted@0.4" in names and not any("None" in name for name in names)


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"budget": {"level": "0.5"}}, "budget.level", "Allowed: 0.2, low, 0.4, 0.6, 1.0."),
        ({"budget": {"level": 0.4}}, "budget.level", "must be the name of a level"),
        ({"budget": {"level": "0.4", "ratio": 0.4}}, "budget.level", "send only one"),
        ({"budget": {"level": "0.4"}, "model": "scripted@0.4"}, "budget.level", "only one"),
        ({"budget": "auto"}, "budget", "no policy token"),
    ],
)
def test_levels_that_are_none_are_a_400(
    measured: Live, fields: dict[str, Any], param: str, says: str
) -> None:
    error = measured.refused(messages=user(), **fields) if "model" not in fields else None
    if error is None:
        error = measured.refused({"messages": user(), **fields})
    assert error["param"] == param and says in error["message"]


def test_a_level_needs_a_card() -> None:
    with serve(card="none") as live:
        assert "no budget card" in live.refused(budget={"level": "0.4"})["message"]


def test_a_trained_level_has_a_name_too(token_server: Live) -> None:
    found = token_server.chat(budget={"level": "0.4"})["budget"]
    assert (found["level"], found["control_token"]) == ("0.4", "<COMP_40>")


def test_the_operators_bounds_hold_for_names_and_ratios(tmp_path: Path) -> None:
    file = card().save_as(tmp_path / "measured.json")
    with serve(card=str(file), budget_ceiling=0.5, budget_floor=0.25) as live:
        assert report(live, {"level": "1.0"})["level"] == "0.4"
        assert report(live, "native")["level"] == "0.4"
        assert report(live, "none")["level"] == "low"


def test_where_all_are_dominated_all_are_offered(tmp_path: Path) -> None:
    levels = [{**level, "dominated_by": "none"} for level in card_data()["levels"]]
    file = card(levels=levels).save_as(tmp_path / "measured.json")
    with serve(card=str(file)) as live:
        assert report(live, 0.6)["level"] == "0.6"


def test_metrics_know_its_levels(measured: Live) -> None:
    report(measured, 0.4)
    assert measured.metric_sum("extracot_card_expected_ratio", budget="0.4") == 0.38
    assert measured.metric_sum("extracot_requests_total", budget="0.4") >= 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "other"}, "model: the card is of the model other, and this is scripted"),
        ({"tokenizer_hash": "sha256:" + "0" * 64}, "tokenizer_hash: the tokenizer is sha256:"),
    ],
)
def test_a_card_of_another_model_is_refused(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    file = card(**changes).save_as(tmp_path / "measured.json")
    with pytest.raises(CardError, match=says), serve(card=str(file)):
        pass


def test_a_measured_model_keeps_what_its_profile_says(tmp_path: Path) -> None:
    """Its figures were measured with that; a model with trained levels was trained without."""
    engine, settings = ScriptedEngine(), Settings(engine="scripted", profile="qwen3")
    plain = profile_of("m", settings, engine, None)
    assert plain.closing and profile_of("m", settings, engine, card()) == plain
    file = card().save_as(tmp_path / "measured.json")
    with serve(card=str(file), profile="qwen3") as live:
        reply = live.chat(budget=0.2)
    assert reply["budget"]["closing_tokens"] > 0
    assert plain.closing in reply["choices"][0]["message"]["reasoning"]
