"""From a request's budget fields to how the server runs it. Pure.

:func:`resolve_budget` joins the value with alias, ``reasoning_effort``, the operator's policy and
the checkpoint's card; ``budget.limits`` turns the result into token counts once the
prompt's length is known. Knows neither HTTP nor engines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

from extracot.card import BudgetCard, LevelCard
from extracot_server.budget.values import BudgetSpec, Target, shown
from extracot_server.config.effort_map import DEFAULT_EFFORT_MAP
from extracot_server.errors import BudgetError

_TIE = 1e-9
BudgetSource = Literal["budget", "alias", "reasoning_effort", "default"]
"""Where a budget comes from; also a label in metrics."""


class BudgetKind(StrEnum):
    """How a request is run."""

    LEVEL = "level"  # a trained level, by its control token
    AUTO = "auto"  # the model picks the level
    NATIVE = "native"  # no control token, no ratio
    NONE = "none"  # a closed, empty think block
    CAP = "cap"  # no trained levels: the block is opened and capped, or an effort is asked for


@dataclass(frozen=True, slots=True)
class BudgetPolicy:
    """What the operator allows; its defaults are settings (``config.model_settings``).

    Cap mode's native reasoning length is measured, else assumed; ``measured_total`` is with the
    answer.
    """

    default: Target = "native"
    floor: float | None = None
    ceiling: float | None = None
    reasoning_tokens_ceiling: int | None = None
    efforts: Mapping[str, Target] = field(default_factory=dict)
    assumed_baseline: int = 512
    measured_baseline: float | None = None
    measured_total: float | None = None
    answer_reserve: int = 256
    grace_tokens: int = 0
    can_skip: bool = True
    """Whether a reply without reasoning can be had of this model."""

    @property
    def allowed_efforts(self) -> dict[str, Target]:
        """The efforts that a client may ask for, and their budgets."""
        return {name: to for name, to in self.efforts.items() if self.can_skip or to != "none"}

    @property
    def baseline(self) -> tuple[float, Literal["holdout", "assumed"]]:
        """Cap mode: native reasoning tokens to expect, and how that is known."""
        if self.measured_baseline is not None:
            return self.measured_baseline, "holdout"
        return float(self.assumed_baseline), "assumed"


@dataclass(frozen=True, slots=True)
class BudgetSources:
    """The budget fields of one request; ``None``: not given.

    ``effort_field`` is what the API that was asked calls the effort; ``fields`` are all the fields
    that any of it was read from, for the report.
    """

    budget: BudgetSpec | None = None
    alias: Target | None = None
    effort: Any = None
    effort_field: str = "reasoning_effort"
    fields: tuple[str, ...] = ()

    @property
    def target_field(self) -> str | None:
        """The client's field that the target comes from; ``None``: it has said nothing of one."""
        spec = self.budget
        if spec is not None and (spec.target is not None or spec.max_reasoning_tokens == 0):
            return spec.target_field
        if self.alias is not None:
            return "model"
        return None if self.effort is None else self.effort_field


@dataclass(frozen=True, slots=True)
class ResolvedBudget:
    """What will be done. Ratios are realised reasoning lengths over those of level 1.0."""

    kind: BudgetKind
    source: BudgetSource
    requested: Any
    applied_ratio: float | None = None
    level: LevelCard | None = None
    allowed: tuple[LevelCard, ...] = ()
    max_reasoning_tokens: int | None = None
    hard: bool = False
    grace: int | None = None
    effort: str | None = None
    """The effort beside a native budget, which only the chat template is told."""
    told_ratio: float | None = None
    """What a prompt says of a measured cap: its share of what was assumed when it was measured."""

    @property
    def by_effort(self) -> bool:
        """The chat template is asked for an effort, and reasoning ends by itself."""
        return self.level is not None and self.level.enforced_by == "effort"

    @property
    def label(self) -> str:
        """The bounded value of the ``budget`` label in metrics."""
        return self.level.name if self.level is not None else self.kind.value


def resolve_budget(
    sources: BudgetSources, card: BudgetCard | None, policy: BudgetPolicy
) -> ResolvedBudget:
    """Decide how to run a request: budget, then alias, then effort, then the server's default.

    Total: every budget gives a result or a :class:`BudgetError`. The level of a ratio is the
    one whose realised ratio on the card is nearest (ties: the smaller), within the operator's
    floor and ceiling, and not one that is dominated; ``card`` is ``None`` where nothing was
    measured. A client's cap in tokens is kept as it is here:
    :func:`extracot_server.budget.limits.resolve_limits` raises it to the floor.
    """
    spec = sources.budget or BudgetSpec()
    target, source, requested = _choose_source(sources, spec, policy)
    cap, ceiling = spec.max_reasoning_tokens, policy.reasoning_tokens_ceiling
    if cap == 0 or ceiling == 0:
        target = "none"
    if ceiling is not None:
        cap = ceiling if cap is None else min(cap, ceiling)
    base = ResolvedBudget(
        BudgetKind.NONE, source, requested, max_reasoning_tokens=cap, hard=spec.hard
    )
    named = _named_level(spec.level, sources, card)
    by_effort = named is None and spec.target is None and sources.alias is None
    if by_effort and sources.effort is not None and card is not None:
        named = _effort_level(sources.effort, card, policy)
    target = "none" if ceiling == 0 else _apply_policy(target, policy)
    if target == "none" and (named is None or 0 in (cap, ceiling)):
        return base
    if target == "native" and named is None:
        effort = sources.effort if isinstance(sources.effort, str) else None
        return replace(base, kind=BudgetKind.NATIVE, effort=effort)
    if spec.hard and card is not None and card.baseline is None:
        raise BudgetError(
            "This model's budget card has no baseline, so a ratio cannot be enforced. "
            "Use `budget.max_reasoning_tokens` for a hard cap.",
            param="budget.enforce",
        )
    if card is not None and named is not None:
        allowed = allowed_levels(card, policy)
        level = named if named in allowed else nearest_level(allowed, named.expected_ratio)
        return _at_level(base, level, card, spec, policy)
    if target == "auto":
        return replace(base, kind=BudgetKind.AUTO, allowed=_choice(card, policy, sources))
    ratio = float(target)
    if card is None:
        return replace(base, kind=BudgetKind.CAP, applied_ratio=ratio, grace=spec.grace)
    level = nearest_level(offered_levels(card, policy), ratio)
    return _at_level(replace(base, applied_ratio=ratio), level, card, spec, policy)


def _choice(
    card: BudgetCard | None, policy: BudgetPolicy, sources: BudgetSources
) -> tuple[LevelCard, ...]:
    """What a model may choose among; raises :class:`BudgetError` for one that cannot choose."""
    if card is None or policy_level(card) is None:
        others = ', "native" or "none"' if policy.can_skip else ' or "native"'
        raise BudgetError(
            'This model cannot choose its own budget ("auto"): it has no policy token. '
            f"Allowed here: a number in (0, 1]{others}.",
            param=sources.target_field,
        )
    return allowed_levels(card, policy)


def _at_level(
    base: ResolvedBudget,
    level: LevelCard,
    card: BudgetCard,
    spec: BudgetSpec,
    policy: BudgetPolicy,
) -> ResolvedBudget:
    """Run at a level: by its control token, or as the level was measured."""
    if level.enforced_by == "token":
        return replace(base, kind=BudgetKind.LEVEL, level=level)
    share = None
    if level.enforced_by == "cap" and level.ratio is not None and card.native is not None:
        share = level.ratio * card.native.reasoning.mean / policy.assumed_baseline
    return replace(base, kind=BudgetKind.CAP, level=level, grace=spec.grace, told_ratio=share)


def _named_level(
    name: str | None, sources: BudgetSources, card: BudgetCard | None
) -> LevelCard | None:
    """The level that a request names; ``None``: it names none."""
    if name is None:
        return None
    if sources.alias is not None:
        raise BudgetError(
            f"The model name asks for the budget {sources.alias} and `budget.level` for "
            f"{shown(name)}: send only one of them.",
            param="budget.level",
        )
    levels = {} if card is None else {level.name: level for level in card.levels}
    if name not in levels:
        known = f"Allowed: {', '.join(levels)}." if levels else "This model has no budget card."
        raise BudgetError(f"`budget.level` is {shown(name)}. {known}", param="budget.level")
    return levels[name]


def _effort_level(effort: str, card: BudgetCard, policy: BudgetPolicy) -> LevelCard | None:
    """The level that was measured at an effort, unless the operator has said what that is, or it
    is to be none."""
    meant = policy.efforts[effort]
    if meant == "none" or meant != DEFAULT_EFFORT_MAP.get(effort):
        return None
    return next((level for level in card.levels if level.effort == effort), None)


def policy_level(card: BudgetCard | None) -> LevelCard | None:
    """The policy token's entry: what makes ``auto`` possible. ``None`` where a model has none."""
    return None if card is None else card.policy


def measured_ratio(level: LevelCard) -> float | None:
    """The realised ratio of a level, ``None`` where nothing was measured: what clients are told."""
    return level.realised.mean if level.realised is not None else None


def allowed_levels(card: BudgetCard, policy: BudgetPolicy) -> tuple[LevelCard, ...]:
    """The card's levels within floor and ceiling, by expected ratio; never empty.

    Where no level lies within, the nearest one to the bound is left: a policy narrows the choice,
    it does not make a model unusable.
    """
    low = policy.floor if policy.floor is not None else 0.0
    high = policy.ceiling if policy.ceiling is not None else math.inf
    within = tuple(lv for lv in card.levels if low - _TIE <= lv.expected_ratio <= high + _TIE)
    if within:
        return within
    bound = policy.ceiling if policy.ceiling is not None else low
    return (nearest_level(tuple(card.levels), bound),)


def offered_levels(card: BudgetCard, policy: BudgetPolicy) -> tuple[LevelCard, ...]:
    """The allowed levels that a ratio may be served by: those that nothing dominates, which was
    measured to be cheaper and more accurate. Where all are dominated, all of them."""
    allowed = allowed_levels(card, policy)
    return tuple(level for level in allowed if level.dominated_by is None) or allowed


def nearest_level(levels: tuple[LevelCard, ...], ratio: float) -> LevelCard:
    """The level whose expected ratio is nearest to ``ratio``; ties go to the smaller."""
    best = levels[0]
    for level in levels[1:]:
        if abs(level.expected_ratio - ratio) < abs(best.expected_ratio - ratio) - _TIE:
            best = level
    return best


def _choose_source(
    sources: BudgetSources, spec: BudgetSpec, policy: BudgetPolicy
) -> tuple[Target, BudgetSource, Any]:
    alias, target = sources.alias, spec.target
    if target is not None and alias is not None and target != alias:
        raise BudgetError(
            f"The model name asks for the budget {alias} and `budget` for {target}: "
            "send only one of them.",
            param="budget",
        )
    effort = None if sources.effort is None else _effort_target(sources, policy)
    default = policy.default
    if default == "none" and spec.max_reasoning_tokens:
        default = "native"  # who bounds the reasoning wants some
    inherited = next(item for item in (alias, effort, default) if item is not None)
    if sources.budget is not None:
        return (inherited if target is None else target), "budget", spec.given
    if alias is not None:
        return alias, "alias", alias
    if effort is not None:
        return effort, "reasoning_effort", sources.effort
    return policy.default, "default", None


def _effort_target(sources: BudgetSources, policy: BudgetPolicy) -> Target:
    effort, field = sources.effort, sources.effort_field
    if not isinstance(effort, str) or effort not in policy.efforts:
        raise BudgetError(
            f"`{field}` is {shown(effort)}. Allowed: {', '.join(policy.allowed_efforts)}.",
            param=field,
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
