"""What each form of a budget does, where it may come from, and what the reply says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.server.live import Live, serve, user


def test_no_budget_is_native(token_server: Live) -> None:
    reply = token_server.chat()
    report = reply["budget"]
    assert (report["requested"], report["source"], report["level"]) == (None, "default", "native")
    assert report["applied_ratio"] is report["expected_ratio"] is report["control_token"] is None
    assert (report["enforcement"], report["calibrated"]) == ("none", False)
    assert report["saved_tokens_estimate"] is None
    assert reply["choices"][0]["message"]["reasoning"]
    assert "\\boxed{" in reply["choices"][0]["message"]["content"]


# The scripted card realises 0.22, 0.41, 0.60, 0.79 and 1.0.
@pytest.mark.parametrize(
    ("ratio", "level"),
    [
        (0.01, "0.2"),
        (0.2, "0.2"),
        (0.31, "0.2"),  # nominally halfway, but nearer to 0.22 than to 0.41
        (0.315, "0.2"),  # a tie goes to the smaller
        (0.316, "0.4"),
        (0.505, "0.4"),  # a tie
        (0.695, "0.6"),  # a tie
        (0.7, "0.8"),
        (0.9, "1.0"),
        (1, "1.0"),
        (1.0, "1.0"),
    ],
)
def test_a_ratio_picks_the_level_by_what_it_realises(
    token_server: Live, ratio: float, level: str
) -> None:
    report = token_server.chat(budget=ratio)["budget"]
    assert report["level"] == level
    assert report["applied_ratio"] == ratio
    assert report["control_token"] == f"<COMP_{round(float(level) * 100)}>"
    assert report["enforcement"] == "token"
    assert report["calibrated"] is True


@pytest.mark.parametrize(
    ("budget", "meant"),
    [
        ("0.2", "the number 0.2?"),
        (" 1 ", "the number 1?"),
        ("20%", '0.2 or {"max_reasoning_tokens": 20}?'),
        ("1.5%", "0.015?"),
        ("low", '`reasoning_effort`: "low" (by default 0.4)?'),
        ("High", '`reasoning_effort`: "high" (by default 0.8)?'),
        ("Auto", '"auto"?'),
        ("nativ", '"native"?'),
        ("off", '"none"?'),
        (False, '"none"?'),
        (0, '"none"?'),
        (40, '0.4 or {"max_reasoning_tokens": 40}?'),
        (2048, '{"max_reasoning_tokens": 2048}?'),
        ({"ratio": "0.2"}, "the number 0.2?"),
        ({"tokens": 100}, "`max_reasoning_tokens`?"),
    ],
)
def test_a_wrong_budget_gets_a_hint(token_server: Live, budget: Any, meant: str) -> None:
    error = token_server.refused(budget=budget)
    assert f" Did you mean {meant}" in error["message"] and "Allowed: " in error["message"]


@pytest.mark.parametrize(
    "budget",
    [
        *("fast", "", -1, 1.5, 2, True, [0.2], 10**12, "nan", "-0.2", "1e999"),
        *(10**400, -(10**400), {"ratio": 10**400}),  # no float holds them
    ],
)
def test_a_budget_like_nothing_gets_none(token_server: Live, budget: Any) -> None:
    error = token_server.refused(budget=budget)
    assert "Did you mean" not in error["message"] and error["param"].startswith("budget")


def test_a_level_costs_what_its_card_says(token_server: Live) -> None:
    used = [token_server.chat(budget=r)["budget"]["reasoning_tokens"] for r in (0.2, 0.4, 0.8, 1)]
    assert used == sorted(set(used))
    report = token_server.chat(budget=0.2)["budget"]
    assert report["expected_ratio"] == 0.22
    assert report["baseline_source"] == "card"
    expected = report["reasoning_tokens"] / report["baseline_tokens"]
    assert report["realised_ratio"] == pytest.approx(expected)
    saving = report["baseline_tokens"] - report["reasoning_tokens"]
    assert report["saved_tokens_estimate"] == pytest.approx(saving)


def test_none_reasons_not_at_all(token_server: Live) -> None:
    reply = token_server.chat(budget="none")
    message, report = reply["choices"][0]["message"], reply["budget"]
    assert message["reasoning"] is message["reasoning_content"] is None
    assert message["content"].startswith("The answer is")
    assert (report["level"], report["enforcement"]) == ("none", "none")
    assert report["reasoning_tokens"] == report["max_reasoning_tokens"] == 0
    assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


@pytest.mark.parametrize(
    ("budget", "enforcement", "level", "cap"),
    [
        ({"ratio": 0.4}, "token", "0.4", None),
        ({"ratio": 0.4, "enforce": "soft"}, "token", "0.4", None),
        ({"ratio": 0.4, "enforce": "hard"}, "token+cap", "0.4", 60),  # 0.4 x the card's p90, 148
        ({"ratio": 0.4, "max_reasoning_tokens": 9}, "token+cap", "0.4", 9),
        ({"ratio": 0.4, "enforce": "hard", "max_reasoning_tokens": 9}, "token+cap", "0.4", 9),
        ({"ratio": 0.4, "enforce": "hard", "max_reasoning_tokens": 999}, "token+cap", "0.4", 60),
        ({"ratio": "native", "max_reasoning_tokens": 7}, "cap", "native", 7),
        ({"ratio": "none"}, "none", "none", 0),
        ({"max_reasoning_tokens": 7}, "cap", "native", 7),
        ({"max_reasoning_tokens": 0}, "none", "none", 0),
        ({"ratio": 0.4, "max_reasoning_tokens": 0}, "none", "none", 0),
        ({"ratio": None, "max_reasoning_tokens": 7, "enforce": None}, "cap", "native", 7),
    ],
)
def test_object_forms(
    token_server: Live, budget: dict[str, Any], enforcement: str, level: str, cap: int | None
) -> None:
    report = token_server.chat(budget=budget)["budget"]
    assert (report["enforcement"], report["level"]) == (enforcement, level)
    assert report["requested"] == budget
    if cap is not None:
        assert report["max_reasoning_tokens"] == cap
        assert report["reasoning_tokens"] <= cap


@pytest.mark.parametrize(
    ("budget", "param"),
    [
        (True, "budget"),
        (False, "budget"),
        (0, "budget"),
        (-0.2, "budget"),
        (1.2, "budget"),
        (10**30, "budget"),
        ("fast", "budget"),
        ("0.2", "budget"),
        ("", "budget"),
        ([], "budget"),
        ([0.2], "budget"),
        ({}, "budget"),
        ({"ratio": None}, "budget"),
        ({"ratio": 0}, "budget.ratio"),
        ({"ratio": "x"}, "budget.ratio"),
        ({"ratio": True}, "budget.ratio"),
        ({"ratio": {}}, "budget.ratio"),
        ({"max_reasoning_tokens": -1}, "budget.max_reasoning_tokens"),
        ({"max_reasoning_tokens": 1.5}, "budget.max_reasoning_tokens"),
        ({"max_reasoning_tokens": True}, "budget.max_reasoning_tokens"),
        ({"max_reasoning_tokens": "9"}, "budget.max_reasoning_tokens"),
        ({"ratio": 0.2, "enforce": "very"}, "budget.enforce"),
        ({"ratio": 0.2, "enforce": []}, "budget.enforce"),
        ({"ratio": 0.2, "max_tokens": 5}, "budget.max_tokens"),
        ({"ratoi": 0.2}, "budget.ratoi"),
    ],
)
def test_a_wrong_budget_names_the_key_and_what_is_allowed(
    token_server: Live, budget: Any, param: str
) -> None:
    error = token_server.refused(budget=budget)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    allowed = {
        "budget.max_reasoning_tokens": "0 or more",
        "budget.enforce": "hard",
    }.get(param, "(0, 1]")
    assert allowed in error["message"]


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(token_server: Live, literal: str) -> None:
    body = json.dumps({"messages": user(), "budget": 0}).replace(": 0}", f": {literal}}}")
    assert token_server.refused(body)["param"] == "budget"


@pytest.mark.parametrize("number", [10**9, 10**308, 10**309, 10**4000])
def test_a_cap_may_be_any_number(token_server: Live, number: int) -> None:
    report = token_server.chat(budget={"max_reasoning_tokens": number})["budget"]
    assert report["enforcement"] in ("cap", "none") and report["reasoning_tokens"] > 0


@pytest.mark.parametrize("alias", ["1_0e-1", "٠.٤", " 0.4", "0.4\n", "+0.4", "0x1", "nan", "2"])
def test_an_alias_that_is_no_budget_is_no_model(token_server: Live, alias: str) -> None:
    error = token_server.refused(model=f"scripted@{alias}", status=404)
    assert error["code"] == "model_not_found"


def test_a_near_miss_of_the_name_is_refused(token_server: Live) -> None:
    for name in ("buget", "Budget", "budgets", "budjet"):
        error = token_server.refused({"messages": user(), name: 0.2})
        assert (error["param"], "did you mean `budget`" in error["message"]) == (name, True)


@pytest.mark.parametrize(
    ("alias", "level"), [("0.4", "0.4"), ("auto", "auto"), ("none", "none"), ("native", "native")]
)
def test_an_alias_is_a_budget(token_server: Live, alias: str, level: str) -> None:
    reply = token_server.chat(model=f"scripted@{alias}")
    assert (reply["budget"]["source"], reply["budget"]["level"]) == ("alias", level)
    assert reply["model"] == f"scripted@{alias}"


def test_an_alias_and_a_budget_must_agree(token_server: Live) -> None:
    error = token_server.refused(model="scripted@0.4", budget=0.6)
    assert error["param"] == "budget"
    agreeing = token_server.chat(model="scripted@0.4", budget=0.4)["budget"]
    assert (agreeing["source"], agreeing["level"]) == ("budget", "0.4")
    capped = token_server.chat(model="scripted@0.4", budget={"max_reasoning_tokens": 5})["budget"]
    assert (capped["level"], capped["max_reasoning_tokens"]) == ("0.4", 5)


@pytest.mark.parametrize("name", ["scripted@", "scripted@fast", "scripted@2", "scripted@nan", "@"])
def test_an_alias_that_is_none_is_no_model(token_server: Live, name: str) -> None:
    error = token_server.refused(model=name, status=404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")


def test_reasoning_effort_is_mapped(token_server: Live) -> None:
    efforts = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
    reports = [token_server.chat(reasoning_effort=effort)["budget"] for effort in efforts]
    levels = ["none", "0.2", "0.4", "0.6", "0.8", "1.0", "native"]
    assert [report["level"] for report in reports] == levels
    assert [report["requested"] for report in reports] == list(efforts)
    assert {report["source"] for report in reports} == {"reasoning_effort"}


def test_an_unknown_effort_is_refused(token_server: Live) -> None:
    error = token_server.refused(reasoning_effort="huge")
    assert error["param"] == "reasoning_effort"
    assert "minimal" in error["message"]


def test_sources_have_an_order(token_server: Live) -> None:
    both = token_server.chat(reasoning_effort="high", budget=0.2)["budget"]
    assert (both["source"], both["level"]) == ("budget", "0.2")
    named = token_server.chat(reasoning_effort="high", model="scripted@0.4")["budget"]
    assert (named["source"], named["level"]) == ("alias", "0.4")
    capped = token_server.chat(reasoning_effort="high", budget={"max_reasoning_tokens": 5})
    assert (capped["budget"]["source"], capped["budget"]["level"]) == ("budget", "0.8")


def test_the_header_tells_what_is_known_before_the_first_token(token_server: Live) -> None:
    for stream in (False, True):
        response = token_server.post(budget=0.2, stream=stream)
        header = json.loads(response.headers["x-extracot-budget"])
        assert header["requested"] == header["applied_ratio"] == 0.2
        assert (header["level"], header["expected_ratio"]) == ("0.2", 0.22)
        assert header["control_token"] == "<COMP_20>"


def test_a_system_prompt_of_ones_own_is_not_calibrated(token_server: Live) -> None:
    messages = [{"role": "system", "content": "Be brief."}, *user()]
    report = token_server.chat(messages=messages, budget=0.2)["budget"]
    assert report["calibrated"] is False
    report = token_server.chat(budget=0.2, include_instruction=False)["budget"]
    assert report["calibrated"] is False


def test_floor_ceiling_default_and_map_are_the_operators() -> None:
    settings: dict[str, Any] = {
        "default_budget": 0.6,
        "budget_floor": 0.4,
        "budget_ceiling": 0.7,
        "reasoning_tokens_ceiling": 50,
        "reasoning_effort_map": {"low": "none"},
    }
    with serve(**settings) as live:
        default = live.chat()["budget"]
        assert (default["source"], default["level"]) == ("default", "0.6")
        raised = live.chat(budget=0.1)["budget"]
        assert (raised["requested"], raised["applied_ratio"]) == (0.1, 0.4)
        lowered = live.chat(budget=1)["budget"]
        assert (lowered["requested"], lowered["applied_ratio"], lowered["level"]) == (1, 0.7, "0.6")
        assert live.chat(budget="native")["budget"]["applied_ratio"] == 0.7
        assert live.chat(budget="none")["budget"]["applied_ratio"] == 0.4
        assert live.chat(reasoning_effort="low")["budget"]["applied_ratio"] == 0.4
        assert live.chat(budget={"max_reasoning_tokens": 0})["budget"]["applied_ratio"] == 0.4
        capped = live.chat(budget="native")["budget"]
        assert (capped["max_reasoning_tokens"], capped["cap_reason"]) == (50, "operator")
        own = live.chat(budget={"ratio": 0.5, "max_reasoning_tokens": 5})["budget"]
        assert own["requested"] == {"ratio": 0.5, "max_reasoning_tokens": 5}
        # The floor is worth more tokens than the ceiling lets anybody have.
        assert (own["max_reasoning_tokens"], own["cap_reason"]) == (50, "operator")
        allowed = {"0.4", "0.6"}
        for seed in range(20):
            assert live.chat(budget="auto", seed=seed)["budget"]["chosen"] in allowed
        listed = live.http.get("/v1/budget").json()
        usable = {level["name"] for level in listed["levels"] if level["allowed_by_policy"]}
        assert usable == allowed
