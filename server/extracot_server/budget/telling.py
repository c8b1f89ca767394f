"""What a prompt tells the model of its budget, so that it never contradicts what is enforced. Pure.

A template's own variables turn reasoning on or off, take an effort, or take a number of tokens;
which they are is in the model's profile. Knows no templates and no requests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from extracot_server.budget.resolve import BudgetKind, BudgetPolicy, ResolvedBudget
from extracot_server.profiles.profile import Profile, SwitchValue

_NO_EFFORT = "none"
_TIE = 1e-9


def told(
    profile: Profile, resolved: ResolvedBudget, policy: BudgetPolicy
) -> dict[str, SwitchValue]:
    """The template's variables for a request.

    - None: the off values, and the effort ``none`` where the template takes that.
    - An effort-level of the card, or an effort beside a native budget: that effort.
    - Anything else: the on values, and maybe an effort. It is the client's own where the template
      takes it and nothing narrows it, else the one whose budget is nearest to the cap (ties: the
      smaller). A cap in tokens is compared by the baseline. Without a cap it is the client's, or
      the most there is for one that the template does not take, and none at all without an effort:
      the template's own default holds.
    """
    if resolved.kind is BudgetKind.NONE:
        off = {name: s.off for name, s in profile.switches.items() if s.off is not None}
        return {**_effort(profile, _NO_EFFORT), **off}
    on = {name: s.on for name, s in profile.switches.items() if s.on is not None}
    if resolved.level is not None and resolved.level.effort is not None:
        return {**on, **profile.told_effort(resolved.level.effort)}
    if resolved.kind is BudgetKind.NATIVE and resolved.effort in profile.efforts:
        return {**on, **_effort(profile, resolved.effort)}
    ratio = _ratio(resolved, policy)
    on |= _effort(profile, told_effort(profile, resolved, policy, ratio))
    return on


def told_tokens(profile: Profile, resolved: ResolvedBudget, cap: int) -> dict[str, SwitchValue]:
    """The number of reasoning tokens, for a template that takes one; nothing without a budget."""
    capped = resolved.kind is BudgetKind.CAP and not resolved.by_effort
    budgeted = capped or resolved.max_reasoning_tokens is not None
    if profile.budget_switch is None or not budgeted or resolved.kind is BudgetKind.NONE:
        return {}
    return {profile.budget_switch: cap}


def told_effort(
    profile: Profile, resolved: ResolvedBudget, policy: BudgetPolicy, ratio: float
) -> str | None:
    """The effort to tell the template, if any; ``ratio`` is the cap over the baseline."""
    efforts = [effort for effort in profile.efforts if effort != _NO_EFFORT]
    of_effort = resolved.source == "reasoning_effort"
    asked = str(resolved.requested) if of_effort else resolved.effort
    if not efforts:
        return None
    meant = {effort: _meaning(effort, policy) for effort in efforts}
    if asked in meant and _distance(meant[asked], ratio) <= _TIE:
        return asked
    if math.isinf(ratio):  # a request that is held out asks for an effort, and runs without one
        most = asked is not None and math.isinf(_meaning(asked, policy))
        return efforts[-1] if most else None
    return min(efforts, key=lambda effort: (_rounded(meant[effort], ratio), meant[effort]))


def _ratio(resolved: ResolvedBudget, policy: BudgetPolicy) -> float:
    """The cap on reasoning over the baseline; infinite without one."""
    ratio = math.inf if resolved.applied_ratio is None else resolved.applied_ratio
    if resolved.kind is BudgetKind.CAP and resolved.told_ratio is not None:
        ratio = resolved.told_ratio
    if resolved.max_reasoning_tokens is not None:
        # No context is that long, and no float may be that large.
        ratio = min(ratio, min(resolved.max_reasoning_tokens, 2**53) / policy.baseline[0])
    return ratio


def _meaning(effort: str, policy: BudgetPolicy) -> float:
    """The ratio that an effort stands for on this server; native is more than any."""
    target = policy.efforts.get(effort)
    return float(target) if isinstance(target, int | float) else math.inf


def _distance(meant: float, ratio: float) -> float:
    if math.isinf(meant) or math.isinf(ratio):
        return 0.0 if meant == ratio else math.inf
    return abs(meant - ratio)


def _rounded(meant: float, ratio: float) -> float:
    """The distance, without the dust of binary fractions, which would break ties by chance."""
    return round(_distance(meant, ratio), 6)


def _effort(profile: Profile, effort: str | None) -> Mapping[str, SwitchValue]:
    if effort is None or effort not in profile.efforts:
        return {}
    return profile.told_effort(effort)
