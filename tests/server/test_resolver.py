"""The resolver is total, and picks what is nearest; the pure rules of limits and accounts."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot.card import BudgetCard
from extracot.figures import RatioSummary
from extracot_server.budget.limits import Limits, resolve_limits
from extracot_server.budget.resolve import (
    BudgetKind,
    BudgetPolicy,
    BudgetSources,
    ResolvedBudget,
    allowed_levels,
    resolve_budget,
)
from extracot_server.budget.values import parse_alias, parse_budget
from extracot_server.config.effort_map import DEFAULT_EFFORT_MAP
from extracot_server.engine.scripted.engine import scripted_card
from extracot_server.errors import BudgetError

CARD = scripted_card()
assert CARD.baseline is not None
P90 = CARD.baseline.native_for(9).reasoning.p90
EFFORTS: dict[str, Any] = dict(DEFAULT_EFFORT_MAP)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
KEYS = st.sampled_from(["ratio", "max_reasoning_tokens", "enforce", "x"]) | st.text(max_size=5)
ANY_JSON = st.recursive(
    SCALARS | st.sampled_from(["auto", "native", "none", "hard", "soft", 0.2, 1, 0, -1, 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=6,
)
RATIOS = st.floats(0.01, 1.0)
GOOD_BUDGETS = RATIOS | st.fixed_dictionaries(
    {"ratio": RATIOS | st.sampled_from([None, "auto", "native", "none"])},
    optional={
        "max_reasoning_tokens": st.integers(0, 900),
        "enforce": st.sampled_from(["hard", "soft"]),
    },
)
POLICIES = st.builds(
    lambda default, bounds, ceiling: BudgetPolicy(
        default=default,
        floor=bounds[0],
        ceiling=bounds[1],
        reasoning_tokens_ceiling=ceiling,
        efforts=EFFORTS,
    ),
    st.sampled_from([0.3, "auto", "native", "none"]),
    st.tuples(st.none() | RATIOS, st.none() | RATIOS).filter(
        lambda pair: None in pair or pair[0] <= pair[1]
    ),
    st.none() | st.integers(0, 100),
)
CARDS = st.sampled_from([CARD, None, CARD.model_copy(update={"policy": None, "baseline": None})])


@given(
    ANY_JSON | GOOD_BUDGETS, POLICIES, CARDS, st.none() | RATIOS | st.sampled_from(["auto", "none"])
)
def test_every_json_value_is_a_budget_or_an_error_with_a_param(
    value: Any, policy: BudgetPolicy, card: BudgetCard | None, alias: Any
) -> None:
    try:
        spec = None if value is None else parse_budget(value)
        resolved = resolve_budget(BudgetSources(spec, alias, None), card, policy)
    except BudgetError as error:
        assert error.param is None or error.param.split(".")[0] == "budget"
        assert error.param is not None or value is None or "auto" in str(error)
        assert len(str(error)) < 1000
        return
    assert isinstance(resolved, ResolvedBudget)
    assert resolved.requested is value or value is None
    if resolved.applied_ratio is not None:
        ratio = resolved.applied_ratio
        assert 0 < ratio <= 1
        assert policy.floor is None or ratio >= policy.floor
        assert policy.ceiling is None or ratio <= policy.ceiling
    assert (resolved.kind is BudgetKind.LEVEL) is (resolved.level is not None)
    assert bool(resolved.allowed) is (resolved.kind is BudgetKind.AUTO)
    ceiling = policy.reasoning_tokens_ceiling
    if ceiling is not None:
        assert resolved.max_reasoning_tokens is not None
        assert resolved.max_reasoning_tokens <= ceiling
    assert resolved.label in {
        *("0.2", "0.4", "0.6", "0.8", "1.0"),
        *("auto", "native", "none", "cap"),
    }


@given(ANY_JSON)
def test_what_is_accepted_has_the_documented_form(value: Any) -> None:
    try:
        spec = parse_budget(value)
    except BudgetError as error:
        assert error.param is not None and error.param.startswith("budget")
        return
    if isinstance(value, dict):
        assert set(value) <= {"ratio", "max_reasoning_tokens", "enforce"} and value
        target = value.get("ratio")
    else:
        target = value
    assert target in ("auto", "native", "none", None) or (
        not isinstance(target, bool) and 0 < target <= 1
    )
    assert spec.target == target
    assert json.dumps(value)


@given(RATIOS, st.lists(st.floats(0.05, 3.0), min_size=5, max_size=5))
def test_the_nearest_realised_level_is_used_and_ties_go_to_the_smaller(
    ratio: float, realised: list[float]
) -> None:
    ordered = sorted(realised)
    levels = [
        level.model_copy(update={"realised": RatioSummary(mean=mean, p10=0.0, p90=3.0)})
        for level, mean in zip(CARD.levels, ordered, strict=True)
    ]
    card = CARD.model_copy(update={"levels": levels})
    level = resolve_budget(BudgetSources(parse_budget(ratio)), card, BudgetPolicy()).level
    assert level is not None
    best = min(abs(mean - ratio) for mean in ordered)
    found = level.expected_ratio
    assert found is not None
    assert abs(found - ratio) == pytest.approx(best, abs=2e-9)
    first = next(mean for mean in ordered if abs(mean - ratio) <= best + 1e-12)
    assert found <= first + 2e-9


@given(POLICIES)
def test_a_policy_never_leaves_nothing_to_choose(policy: BudgetPolicy) -> None:
    levels = allowed_levels(CARD, policy)
    assert levels
    low, high = policy.floor or 0.0, policy.ceiling or math.inf
    inside = [lv for lv in CARD.levels if low <= lv.expected_ratio <= high]
    assert not inside or set(lv.name for lv in inside) <= {lv.name for lv in levels}


@given(st.text(max_size=12))
def test_aliases_are_budgets_or_nothing(text: str) -> None:
    target = parse_alias(text)
    assert target is None or target in ("auto", "native", "none") or 0 < float(target) <= 1


@given(
    ANY_JSON | GOOD_BUDGETS,
    st.integers(1, 5000),
    st.none() | st.integers(1, 5000),
    st.integers(0, 300),
    st.sampled_from([CARD, None]),
)
def test_limits_always_leave_room(
    value: Any, room: int, max_tokens: int | None, reserve: int, card: BudgetCard | None
) -> None:
    policy = BudgetPolicy(answer_reserve=reserve)
    try:
        resolved = resolve_budget(BudgetSources(parse_budget(value)), card, policy)
    except BudgetError:
        return
    limits = resolve_limits(
        resolved, card, policy, prompt_tokens=20, room=room, max_tokens=max_tokens
    )
    assert 1 <= limits.max_tokens <= room
    assert max_tokens is None or limits.max_tokens <= max_tokens
    assert 0 <= limits.reasoning_cap <= limits.max_tokens
    assert limits.answer_reserve <= (limits.max_tokens + 1) // 2
    assert reserve == 0 or limits.answer_reserve >= 1
    assert limits.reasoning_cap <= limits.max_tokens - limits.answer_reserve
    if resolved.max_reasoning_tokens is not None:
        assert limits.reasoning_cap <= resolved.max_reasoning_tokens
    assert limits.baseline_source == ("assumed" if card is None else "card")


@pytest.mark.parametrize(
    ("floor", "cap", "ceiling", "card", "wanted"),
    [
        (0.4, 0, None, None, (40, "operator")),  # 0.4 x the assumed 100
        (0.4, 1, None, None, (40, "operator")),
        (0.4, 39, None, None, (40, "operator")),
        (0.4, 40, None, None, (40, "client")),
        (0.4, 41, None, None, (41, "client")),
        (0.4, 1, 30, None, (30, "operator")),
        (0.4, 0, 30, None, (30, "operator")),
        (None, 1, None, None, (1, "client")),
        (0.4, 1, None, CARD, (math.ceil(0.4 * P90), "operator")),
        (0.4, 0, None, CARD, (math.ceil(0.4 * P90), "operator")),
        (0.4, 99, None, CARD, (99, "client")),
    ],
)
@pytest.mark.parametrize("ratio", ["native", 0.9])
def test_a_floor_holds_against_a_cap_in_tokens(
    floor: float | None,
    cap: int,
    ceiling: int | None,
    card: BudgetCard | None,
    wanted: tuple[int, str],
    ratio: float | str,
) -> None:
    policy = BudgetPolicy(floor=floor, reasoning_tokens_ceiling=ceiling, assumed_baseline=100)
    spec = {"ratio": ratio, "max_reasoning_tokens": cap}
    resolved = resolve_budget(BudgetSources(parse_budget(spec)), card, policy)
    limits = resolve_limits(resolved, card, policy, prompt_tokens=9, room=900, max_tokens=None)
    assert resolved.kind is not BudgetKind.NONE
    if cap == 0 and card is None:  # no reasoning at all becomes the floor as a ratio, which caps
        assert (resolved.applied_ratio, limits.reasoning_cap) == (0.4, wanted[0])
    else:
        assert (limits.reasoning_cap, limits.cap_reason) == wanted


def limits_of(budget: Any, card: BudgetCard, policy: BudgetPolicy) -> Limits:
    """Resolved and bounded."""
    resolved = resolve_budget(BudgetSources(parse_budget(budget)), card, policy)
    return resolve_limits(resolved, card, policy, prompt_tokens=900, room=900, max_tokens=None)


def test_a_baseline_that_does_not_cover_a_prompt_bounds_nothing_by_a_ratio() -> None:
    assert CARD.baseline is not None
    short = CARD.baseline.model_copy(update={"native": CARD.baseline.native[:1]})
    card = CARD.model_copy(update={"baseline": short})
    with pytest.raises(BudgetError, match="a prompt of this length") as caught:
        limits_of({"ratio": 0.2, "enforce": "hard"}, card, BudgetPolicy())
    assert caught.value.param == "budget.enforce"
    floored = BudgetPolicy(floor=0.4, reasoning_tokens_ceiling=70)
    with pytest.raises(BudgetError, match="for this prompt"):
        limits_of({"max_reasoning_tokens": 7}, card, floored)
    assert limits_of(0.2, card, floored).reasoning_cap == 70  # the operator's own two


@pytest.mark.parametrize("cap", [0, 1, 500])
def test_a_floor_without_a_baseline_refuses_a_cap_in_tokens(cap: int) -> None:
    card = CARD.model_copy(update={"baseline": None})
    with pytest.raises(BudgetError, match=r"floor is the ratio 0\.4") as caught:
        limits_of({"max_reasoning_tokens": cap}, card, BudgetPolicy(floor=0.4))
    assert caught.value.param == "budget.max_reasoning_tokens"


def test_a_card_without_a_baseline_cannot_be_hard() -> None:
    card = CARD.model_copy(update={"baseline": None})
    with pytest.raises(BudgetError) as caught:
        hard = parse_budget({"ratio": 0.2, "enforce": "hard"})
        resolve_budget(BudgetSources(hard), card, BudgetPolicy())
    assert caught.value.param == "budget.enforce"
    soft = resolve_budget(BudgetSources(parse_budget(0.2)), card, BudgetPolicy())
    limits = resolve_limits(soft, card, BudgetPolicy(), prompt_tokens=9, room=900, max_tokens=None)
    assert (limits.baseline_tokens, limits.baseline_source) == (None, None)


@pytest.mark.parametrize("ratio", ["native", "none", None])
@pytest.mark.parametrize("card", [None, CARD.model_copy(update={"baseline": None})])
def test_hard_without_a_ratio_needs_no_baseline(ratio: str | None, card: BudgetCard | None) -> None:
    """A cap in tokens is hard anyway, and no reasoning is as hard as it gets."""
    spec = {"ratio": ratio, "max_reasoning_tokens": 30, "enforce": "hard"}
    resolved = resolve_budget(BudgetSources(parse_budget(spec)), card, BudgetPolicy())
    limits = resolve_limits(
        resolved, card, BudgetPolicy(), prompt_tokens=9, room=900, max_tokens=None
    )
    assert (limits.reasoning_cap, limits.cap_reason) == (30, "client")


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, BudgetKind.NATIVE),
        ({"floor": 0.4}, BudgetKind.NATIVE),
        ({"ceiling": 0.5}, BudgetKind.LEVEL),
        ({"reasoning_tokens_ceiling": 9}, BudgetKind.NATIVE),
        ({"reasoning_tokens_ceiling": 0}, BudgetKind.NONE),
    ],
)
def test_a_cap_asks_for_reasoning_where_the_default_is_none(
    fields: dict[str, Any], kind: BudgetKind
) -> None:
    policy = BudgetPolicy(default="none", efforts=EFFORTS, **fields)
    capped = parse_budget({"max_reasoning_tokens": 30})
    resolved = resolve_budget(BudgetSources(capped), CARD, policy)
    ceiling = policy.reasoning_tokens_ceiling
    assert (resolved.kind, resolved.source) == (kind, "budget")
    assert resolved.max_reasoning_tokens == (30 if ceiling is None else ceiling)
    unasked = (
        BudgetSources(parse_budget({"max_reasoning_tokens": 0})),
        BudgetSources(parse_budget({"max_reasoning_tokens": 30, "ratio": "none"})),
        BudgetSources(capped, alias="none"),
        BudgetSources(capped, effort="none"),
        BudgetSources(parse_budget({"closing": "Hm."})),
    )
    if not fields:
        for sources in unasked:
            assert resolve_budget(sources, CARD, policy).kind is BudgetKind.NONE


def test_a_card_without_measurements_uses_nominal_ratios() -> None:
    levels = [level.model_copy(update={"realised": None}) for level in CARD.levels]
    card = CARD.model_copy(update={"levels": levels})
    level = resolve_budget(BudgetSources(parse_budget(0.31)), card, BudgetPolicy()).level
    assert level is not None and level.name == "0.4"
