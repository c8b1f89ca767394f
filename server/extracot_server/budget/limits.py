"""How many tokens a request may have: cap on reasoning, room for the answer. Pure.

A cap comes from the ratio, the client, the operator or the room that is left; the smallest holds,
and which one that was is kept. A ratio's cap in cap mode has some grace, which is none of the
others'. Knows neither HTTP nor engines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from extracot.card import BudgetCard, LevelCard
from extracot.figures import BaselineBin, level_cap
from extracot_server.budget.resolve import BudgetKind, BudgetPolicy, ResolvedBudget
from extracot_server.errors import BudgetError

CapReason = Literal["budget", "client", "operator", "room"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Token counts of one request. ``reasoning_cap`` is always set: the answer needs room.

    ``answer_reserve`` of ``max_tokens`` are out of reach for reasoning and for its tags. ``grace``
    is how many tokens beyond the cap a sentence may take to its end.
    """

    max_tokens: int
    answer_reserve: int
    reasoning_cap: int
    cap_reason: CapReason
    baseline_tokens: float | None
    baseline_source: Literal["card", "assumed", "holdout"] | None
    grace: int = 0
    baseline_total: float | None = None
    """Native reasoning and answer tokens to expect; ``None``: not measured."""


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
    ``auto`` request. A client's cap below the operator's floor is raised to it, in tokens: floor x
    baseline, as a hard cap at that ratio would be. The reserve for the answer is the smaller of the
    operator's setting and half (rounded up) of what may be generated. Raises :class:`BudgetError`
    where ratio and tokens would have to be compared and the card has no baseline to do it.
    """
    total = room if max_tokens is None else min(max_tokens, room)
    reserve = min(policy.answer_reserve, (total + 1) // 2)
    baseline = card.baseline.native_for(prompt_tokens) if card and card.baseline else None
    caps: list[tuple[int, Any]] = [(total - reserve, "room")]
    if resolved.max_reasoning_tokens is not None:
        _refuse_incomparable(resolved.max_reasoning_tokens, card, baseline, policy)
        caps.append(_token_cap(resolved.max_reasoning_tokens, baseline, policy))
    of_ratio = _ratio_cap(resolved, level or resolved.level, baseline, policy)
    of_level = _level_cap(resolved.level, baseline)
    grace, of_budget = 0, [cap for cap in (of_ratio, of_level) if cap is not None]
    if of_budget:
        ratio_cap = min(of_budget)
        grace = _grace(resolved, ratio_cap, min(cap for cap, _ in caps), baseline, policy)
        caps.append((ratio_cap, "budget"))
    reasoning_cap, reason = min(caps, key=lambda item: item[0])
    if card is None:
        measured, total_measured = policy.baseline, policy.measured_total
        return Limits(total, reserve, reasoning_cap, reason, *measured, grace, total_measured)
    if baseline is None:
        return Limits(total, reserve, reasoning_cap, reason, None, None, grace)
    mean = baseline.reasoning.mean
    both = mean + baseline.answer.mean
    return Limits(total, reserve, reasoning_cap, reason, mean, "card", grace, both)


def _grace(
    resolved: ResolvedBudget,
    cap: int,
    most: int,
    baseline: BaselineBin | None,
    policy: BudgetPolicy,
) -> int:
    """How far a soft ratio's cap may be exceeded: as far as asked, else by a quarter of it at most.

    Never beyond ``most``, the smallest of the other caps, nor what the operator's ceiling allows.
    """
    if resolved.kind is not BudgetKind.CAP or resolved.hard:
        return 0
    if policy.ceiling is not None:
        most = min(most, max(cap, _tokens_at(policy.ceiling, baseline, policy)))
    wanted = resolved.grace
    if wanted is None:
        wanted = min(policy.grace_tokens, cap // 4)
    return max(0, min(wanted, most - cap))


def _refuse_incomparable(
    asked: int, card: BudgetCard | None, baseline: BaselineBin | None, policy: BudgetPolicy
) -> None:
    """A floor is a ratio and a client's cap is tokens: only a baseline can compare them."""
    by_client = asked != policy.reasoning_tokens_ceiling
    if card is None or baseline is not None or policy.floor is None or not by_client:
        return
    raise BudgetError(
        f"This server's floor is the ratio {policy.floor:g}, and this model's budget card has no "
        "baseline for this prompt to turn it into tokens. Use `budget.ratio` instead of "
        "`budget.max_reasoning_tokens`.",
        param="budget.max_reasoning_tokens",
    )


def _token_cap(
    asked: int, baseline: BaselineBin | None, policy: BudgetPolicy
) -> tuple[int, Literal["client", "operator"]]:
    """A cap in tokens within what the operator allows: not below the floor, then not above the
    ceiling. What the operator's word changes is the operator's cap."""
    least, most = 0, policy.reasoning_tokens_ceiling
    if policy.floor is not None and asked != most:
        least = _tokens_at(policy.floor, baseline, policy)
    if most is not None:
        least = min(least, most)
    if asked < least:
        return least, "operator"
    return asked, "operator" if asked == most else "client"


def _tokens_at(ratio: float, baseline: BaselineBin | None, policy: BudgetPolicy) -> int:
    """A ratio as reasoning tokens: of the card's 90th percentile, or of cap mode's baseline."""
    if baseline is not None:
        return max(1, math.ceil(ratio * baseline.reasoning.p90))
    return max(1, round(ratio * policy.baseline[0]))


def _ratio_cap(
    resolved: ResolvedBudget,
    level: LevelCard | None,
    baseline: BaselineBin | None,
    policy: BudgetPolicy,
) -> int | None:
    if resolved.kind is BudgetKind.CAP and level is None and resolved.applied_ratio is not None:
        return _tokens_at(resolved.applied_ratio, None, policy)
    if not resolved.hard or (level is None and resolved.kind is not BudgetKind.AUTO):
        return None  # native and none have no ratio to enforce; a cap in tokens is always hard
    if baseline is None:
        raise BudgetError(
            "This model's budget card has no baseline for a prompt of this length, so a ratio "
            "cannot be enforced. Use `budget.max_reasoning_tokens` for a hard cap.",
            param="budget.enforce",
        )
    ratio = resolved.applied_ratio
    if ratio is None and level is not None:
        ratio = level.expected_ratio
    return None if ratio is None else _tokens_at(ratio, baseline, policy)


def _level_cap(level: LevelCard | None, baseline: BaselineBin | None) -> int | None:
    """The cap by which a measured level is kept to; ``None``: it has none.

    It is a share of the mean, as it was when the level was measured: :func:`level_cap`.
    """
    if level is None or level.enforced_by == "token":
        return None
    if level.max_reasoning_tokens is not None:
        return level.max_reasoning_tokens
    if level.enforced_by == "effort" or level.ratio is None or baseline is None:
        return None
    return level_cap(level.ratio, baseline.reasoning.mean)
