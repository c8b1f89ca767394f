"""Levels by effort: what the chat template is told, and which effort of a client's they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from extracot_server.budget.holdout import held_out
from extracot_server.budget.resolve import (
    BudgetKind,
    BudgetPolicy,
    BudgetSources,
    ResolvedBudget,
    resolve_budget,
)
from extracot_server.budget.telling import told, told_tokens
from extracot_server.budget.values import parse_budget
from extracot_server.config.effort_map import DEFAULT_EFFORT_MAP
from extracot_server.profiles.profile import Profile, Switch
from tests.measured_card import card

PROFILE = Profile(
    "made", efforts=("low", "medium", "high"), switches={"thinking": Switch(on=True, off=False)}
)


def policy(**efforts: Any) -> BudgetPolicy:
    return BudgetPolicy(efforts={**DEFAULT_EFFORT_MAP, **efforts}, assumed_baseline=1000)


def resolved(budget: Any = None, effort: str | None = None, **efforts: Any) -> ResolvedBudget:
    spec = None if budget is None else parse_budget(budget)
    return resolve_budget(BudgetSources(budget=spec, effort=effort), card(), policy(**efforts))


def test_the_template_is_told_the_effort_of_a_level() -> None:
    found = resolved({"level": "low"})
    assert (found.kind, found.by_effort, found.applied_ratio) == (BudgetKind.CAP, True, None)
    assert told(PROFILE, found, policy()) == {"thinking": True, "reasoning_effort": "low"}


def test_an_effort_level_tells_no_number_of_tokens() -> None:
    counting = replace(PROFILE, budget_switch="thinking_budget")
    assert told_tokens(counting, resolved({"level": "low"}), 900) == {}
    assert told_tokens(counting, resolved({"level": "0.4"}), 40) == {"thinking_budget": 40}
    capped = resolved({"level": "low", "max_reasoning_tokens": 9})
    assert told_tokens(counting, capped, 9) == {"thinking_budget": 9}


def test_an_effort_that_was_measured_is_that_level() -> None:
    found = resolved(effort="low")
    assert found.level is not None and found.level.name == "low"
    assert found.source == "reasoning_effort"
    assert told(PROFILE, found, policy())["reasoning_effort"] == "low"


def test_what_the_operator_says_of_an_effort_holds() -> None:
    found = resolved(effort="low", low=0.2)
    assert found.level is not None and found.level.name == "0.2"


def test_an_effort_that_was_not_measured_is_a_ratio() -> None:
    found = resolved(effort="high")
    assert found.level is not None and found.level.name == "1.0"


def test_no_effort_is_no_reasoning_whatever_was_measured() -> None:
    assert resolved(effort="none").kind is BudgetKind.NONE


def test_a_request_that_is_held_out_is_told_of_no_level() -> None:
    for budget in (0.4, {"level": "low"}):
        found = held_out(resolved(budget))
        assert told(PROFILE, found, policy()) == {"thinking": True}


def test_a_budget_is_stronger_than_an_effort() -> None:
    found = resolved(0.4, effort="low")
    assert found.level is not None and (found.level.name, found.source) == ("0.4", "budget")


@pytest.mark.parametrize(
    "beside",
    [{"closing": "Stop."}, {"grace": 4}, {"enforce": "hard"}, {"max_reasoning_tokens": 90}],
)
def test_an_effort_beside_a_budget_that_names_none_is_the_level_of_the_effort(
    beside: dict[str, Any],
) -> None:
    found = resolved(beside, effort="low")
    assert found.level is not None and found.level.name == "low"
    assert found.max_reasoning_tokens == beside.get("max_reasoning_tokens")
    assert told(PROFILE, found, policy())["reasoning_effort"] == "low"
    none = resolved({"max_reasoning_tokens": 0}, effort="low")
    assert none.kind is BudgetKind.NONE


def test_the_most_effort_is_told_beside_a_closing_too() -> None:
    for beside in (None, {"closing": "Stop."}):
        assert told(PROFILE, resolved(beside, effort="max"), policy()) == {
            "thinking": True,
            "reasoning_effort": "high",
        }


def test_an_effort_beside_a_native_budget_is_told_and_caps_nothing() -> None:
    found = resolved("native", effort="low")
    assert (found.kind, found.level) == (BudgetKind.NATIVE, None)
    assert told(PROFILE, found, policy()) == {"thinking": True, "reasoning_effort": "low"}
    assert told(PROFILE, resolved("native"), policy()) == {"thinking": True}
    other = Profile("made", efforts=("high",))
    assert told(other, found, policy()) == {}


@pytest.mark.parametrize(("ratio", "effort"), [(0.4, "low"), (1.0, "low")])
def test_a_measured_cap_is_told_as_it_was_when_it_was_measured(ratio: float, effort: str) -> None:
    """0.4 of 200 measured tokens were 0.08 of the 1000 that were assumed then."""
    found = resolved(ratio)
    assert found.told_ratio == pytest.approx(ratio * 200 / 1000)
    assert told(PROFILE, found, policy())["reasoning_effort"] == effort
