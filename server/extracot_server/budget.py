"""From what a client says about its budget to what the server does about it. Pure.

:func:`parse_budget` reads the JSON value, :func:`resolve_budget` joins it with alias,
``reasoning_effort``, the operator's policy and the checkpoint's card, :func:`resolve_limits` turns
the result into token counts once the prompt's length is known. Knows neither HTTP nor engines.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from extracot.card import BaselineBin, BudgetCard, LevelCard
from extracot_server.errors import BudgetError

Target = float | Literal["auto", "native", "none"]
WORDS = ("auto", "native", "none")
ALLOWED = (
    'a number in (0, 1], "auto", "native", "none", or an object with `ratio` (one of these), '
    '`max_reasoning_tokens` (an integer of 0 or more) and `enforce` ("soft" or "hard")'
)
_KEYS = ("ratio", "max_reasoning_tokens", "enforce")
_TIE = 1e-9


class BudgetKind(StrEnum):
    """How a request is run."""

    LEVEL = "level"  # a trained level, by its control token
    AUTO = "auto"  # the model picks the level
    NATIVE = "native"  # no control token, no ratio
    NONE = "none"  # a closed, empty think block
    CAP = "cap"  # no card: the think block is opened and capped


@dataclass(frozen=True, slots=True)
class BudgetSpec:
    """One client's ``budget`` value, validated. ``None`` fields were not said."""

    target: Target | None = None
    max_reasoning_tokens: int | None = None
    hard: bool = False


@dataclass(frozen=True, slots=True)
class BudgetPolicy:
    """What the operator allows. Cap mode's native reasoning length is measured, else assumed."""

    default: Target = "native"
    floor: float | None = None
    ceiling: float | None = None
    reasoning_tokens_ceiling: int | None = None
    efforts: Mapping[str, Target] = field(default_factory=dict)
    assumed_baseline: int = 512
    measured_baseline: float | None = None
    answer_reserve: int = 256

    @property
    def baseline(self) -> tuple[float, Literal["holdout", "assumed"]]:
        """Cap mode: native reasoning tokens to expect, and how that is known."""
        if self.measured_baseline is not None:
            return self.measured_baseline, "holdout"
        return float(self.assumed_baseline), "assumed"


@dataclass(frozen=True, slots=True)
class BudgetSources:
    """Everything one request says about its budget. ``None`` means it did not."""

    budget: Any = None
    alias: Target | None = None
    effort: str | None = None


@dataclass(frozen=True, slots=True)
class ResolvedBudget:
    """What will be done. Ratios are realised reasoning lengths over those of level 1.0."""

    kind: BudgetKind
    source: Literal["budget", "alias", "reasoning_effort", "default"]
    requested: Any
    applied_ratio: float | None = None
    level: LevelCard | None = None
    allowed: tuple[LevelCard, ...] = ()
    max_reasoning_tokens: int | None = None
    hard: bool = False

    @property
    def label(self) -> str:
        """The bounded value of the ``budget`` label in metrics."""
        return self.level.name if self.level is not None else self.kind.value


@dataclass(frozen=True, slots=True)
class Limits:
    """Token counts of one request. ``reasoning_cap`` is always set: the answer needs room.

    ``answer_reserve`` of ``max_tokens`` are out of reach for reasoning and for its tags.
    """

    max_tokens: int
    answer_reserve: int
    reasoning_cap: int
    cap_reason: Literal["budget", "client", "operator", "room"]
    baseline_tokens: float | None
    baseline_source: Literal["card", "assumed", "holdout"] | None


def parse_budget(value: Any) -> BudgetSpec:
    """Read a JSON ``budget`` value; raise :class:`BudgetError` naming the key at fault."""
    if not isinstance(value, dict):
        return BudgetSpec(target=parse_target(value))
    for key in value:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise BudgetError(
                f"Unknown key {_shown(key)} in `budget`.{hint} Allowed: {ALLOWED}.",
                param=f"budget.{key[:64]}",
            )
    given = {key: item for key, item in value.items() if item is not None}
    if not given:
        raise BudgetError(f"`budget` says nothing. Allowed: {ALLOWED}.", param="budget")
    target = parse_target(given["ratio"], "budget.ratio") if "ratio" in given else None
    cap = given.get("max_reasoning_tokens")
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 0):
        raise BudgetError(
            f"`budget.max_reasoning_tokens` must be an integer of 0 or more, not {_shown(cap)}.",
            param="budget.max_reasoning_tokens",
        )
    enforce = given.get("enforce", "soft")
    if enforce not in ("soft", "hard"):
        raise BudgetError(
            f'`budget.enforce` must be "soft" or "hard", not {_shown(enforce)}.',
            param="budget.enforce",
        )
    return BudgetSpec(target=target, max_reasoning_tokens=cap, hard=enforce == "hard")


def parse_target(value: Any, param: str = "budget") -> Target:
    """A ratio or one of the words; anything else is a :class:`BudgetError` at ``param``."""
    if isinstance(value, str) and value in WORDS:
        return value  # type: ignore[return-value]  # membership was just checked
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1:
        return float(value)
    allowed = ALLOWED if param == "budget" else 'a number in (0, 1], "auto", "native" or "none"'
    raise BudgetError(f"`{param}` is {_shown(value)}. Allowed: {allowed}.", param=param)


def parse_alias(text: str) -> Target | None:
    """The part of a model name after ``@``: ``0.4``, ``auto``, …; ``None`` if it is no budget."""
    if text in WORDS:
        return text  # type: ignore[return-value]  # membership was just checked
    try:
        ratio = float(text)
    except ValueError:
        return None
    return ratio if 0 < ratio <= 1 else None


def resolve_budget(
    sources: BudgetSources, card: BudgetCard | None, policy: BudgetPolicy
) -> ResolvedBudget:
    """Decide how to run a request: budget, then alias, then effort, then the server's default.

    Total: every JSON value gives a result or a :class:`BudgetError`. The level of a ratio is the
    one whose realised ratio on the card is nearest (ties: the smaller), within the operator's
    floor and ceiling; ``card`` is ``None`` in cap mode.
    """
    spec = BudgetSpec() if sources.budget is None else parse_budget(sources.budget)
    target, source, requested = _choose_source(sources, spec, policy)
    cap, ceiling = spec.max_reasoning_tokens, policy.reasoning_tokens_ceiling
    if cap == 0 or ceiling == 0:
        target = "none"
        if policy.floor is not None and ceiling != 0:
            cap = None  # the operator's floor outranks a client's wish for no reasoning at all
    if ceiling is not None:
        cap = ceiling if cap is None else min(cap, ceiling)
    if spec.hard and card is not None and card.baseline is None:
        raise BudgetError(
            "This model's budget card has no baseline, so a ratio cannot be enforced. "
            "Use `budget.max_reasoning_tokens` for a hard cap.",
            param="budget.enforce",
        )
    common: dict[str, Any] = {
        "source": source,
        "requested": requested,
        "max_reasoning_tokens": cap,
        "hard": spec.hard,
    }
    if cap == 0:
        return ResolvedBudget(kind=BudgetKind.NONE, **common)
    target = _apply_policy(target, policy)
    if target == "none":
        return ResolvedBudget(kind=BudgetKind.NONE, **common)
    if target == "native":
        return ResolvedBudget(kind=BudgetKind.NATIVE, **common)
    if target == "auto":
        return _resolve_auto(card, policy, common)
    if card is None:
        return ResolvedBudget(kind=BudgetKind.CAP, applied_ratio=target, **common)
    level = nearest_level(allowed_levels(card, policy), target)
    return ResolvedBudget(kind=BudgetKind.LEVEL, applied_ratio=target, level=level, **common)


def resolve_limits(
    resolved: ResolvedBudget,
    card: BudgetCard | None,
    policy: BudgetPolicy,
    *,
    prompt_tokens: int,
    room: int,
    max_tokens: int | None,
    level: LevelCard | None = None,
) -> Limits:
    """Token limits of one request.

    ``room`` is what the context has left after the prompt (1 or more), ``level`` the choice of an
    ``auto`` request. The reserve for the answer is the smaller of the operator's setting and half
    (rounded up) of what may be generated.
    """
    total = room if max_tokens is None else min(max_tokens, room)
    reserve = min(policy.answer_reserve, (total + 1) // 2)
    baseline = card.baseline.native_for(prompt_tokens) if card and card.baseline else None
    caps: list[tuple[int, Any]] = [(total - reserve, "room")]
    if resolved.max_reasoning_tokens is not None:
        ceiling = policy.reasoning_tokens_ceiling
        by_operator = ceiling is not None and resolved.max_reasoning_tokens == ceiling
        caps.append((resolved.max_reasoning_tokens, "operator" if by_operator else "client"))
    ratio_cap = _ratio_cap(resolved, level or resolved.level, baseline, policy)
    if ratio_cap is not None:
        caps.append((ratio_cap, "budget"))
    reasoning_cap, reason = min(caps, key=lambda item: item[0])
    if card is None:
        return Limits(total, reserve, reasoning_cap, reason, *policy.baseline)
    mean = baseline.reasoning.mean if baseline else None
    return Limits(total, reserve, reasoning_cap, reason, mean, "card" if baseline else None)


def expected_ratio(level: LevelCard) -> float | None:
    """The realised ratio measured for a level; its nominal ratio where none was measured."""
    return level.realised.mean if level.realised is not None else level.ratio


def allowed_levels(card: BudgetCard, policy: BudgetPolicy) -> tuple[LevelCard, ...]:
    """The card's levels within floor and ceiling, by expected ratio; never empty.

    Where no level lies within, the nearest one to the bound is left: a policy narrows the choice,
    it does not make a model unusable.
    """
    low = policy.floor if policy.floor is not None else 0.0
    high = policy.ceiling if policy.ceiling is not None else math.inf
    within = tuple(
        lv for lv in card.levels if low - _TIE <= (expected_ratio(lv) or 0.0) <= high + _TIE
    )
    if within:
        return within
    bound = policy.ceiling if policy.ceiling is not None else low
    return (nearest_level(tuple(card.levels), bound),)


def nearest_level(levels: tuple[LevelCard, ...], ratio: float) -> LevelCard:
    """The level whose expected ratio is nearest to ``ratio``; ties go to the smaller."""
    best = levels[0]
    for level in levels[1:]:
        distance = abs((expected_ratio(level) or 0.0) - ratio)
        if distance < abs((expected_ratio(best) or 0.0) - ratio) - _TIE:
            best = level
    return best


def _choose_source(
    sources: BudgetSources, spec: BudgetSpec, policy: BudgetPolicy
) -> tuple[Target, Literal["budget", "alias", "reasoning_effort", "default"], Any]:
    alias, target = sources.alias, spec.target
    if target is not None and alias is not None and target != alias:
        raise BudgetError(
            f"The model name asks for the budget {alias} and `budget` for {target}: "
            "say one of them.",
            param="budget",
        )
    effort = None if sources.effort is None else _effort_target(sources.effort, policy)
    inherited = next(item for item in (alias, effort, policy.default) if item is not None)
    if sources.budget is not None:
        return (inherited if target is None else target), "budget", sources.budget
    if alias is not None:
        return alias, "alias", alias
    if effort is not None:
        return effort, "reasoning_effort", sources.effort
    return policy.default, "default", None


def _effort_target(effort: str, policy: BudgetPolicy) -> Target:
    if effort not in policy.efforts:
        raise BudgetError(
            f"`reasoning_effort` is {_shown(effort)}. Allowed: {', '.join(policy.efforts)}.",
            param="reasoning_effort",
        )
    return policy.efforts[effort]


def _apply_policy(target: Target, policy: BudgetPolicy) -> Target:
    """Native counts as more than any ratio, none as less; auto is narrowed where it is chosen."""
    floor, ceiling = policy.floor, policy.ceiling
    if target == "auto":
        return target
    if target == "native":
        return target if ceiling is None or ceiling >= 1 else ceiling
    if target == "none":
        return target if floor is None else floor
    ratio = float(target)
    if floor is not None:
        ratio = max(ratio, floor)
    return ratio if ceiling is None else min(ratio, ceiling)


def _resolve_auto(
    card: BudgetCard | None, policy: BudgetPolicy, common: dict[str, Any]
) -> ResolvedBudget:
    if card is None or card.policy is None:
        raise BudgetError(
            'This model cannot choose its own budget ("auto"): it has no policy token. '
            'Allowed here: a number in (0, 1], "native" or "none".',
            param="budget" if common["source"] == "budget" else None,
        )
    return ResolvedBudget(kind=BudgetKind.AUTO, allowed=allowed_levels(card, policy), **common)


def _ratio_cap(
    resolved: ResolvedBudget,
    level: LevelCard | None,
    baseline: BaselineBin | None,
    policy: BudgetPolicy,
) -> int | None:
    if resolved.kind is BudgetKind.CAP and resolved.applied_ratio is not None:
        return max(1, round(resolved.applied_ratio * policy.baseline[0]))
    if not resolved.hard or baseline is None:
        return None
    ratio = resolved.applied_ratio
    if ratio is None and level is not None:
        ratio = expected_ratio(level)
    return None if ratio is None else max(1, math.ceil(ratio * baseline.reasoning.p90))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
