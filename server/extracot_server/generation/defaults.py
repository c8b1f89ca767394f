"""What a request gets that does not say it: sampling, and a bound on its tokens. Pure.

Sampling is the budget card's, whose figures hold for it, else a bundled model's, else the
profile's: the first that says anything, whole. What it does not say is left to the engine, which
takes it from the model's ``generation_config.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from extracot.card import BudgetCard
from extracot.errors import CardError
from extracot_server.budget.resolve import BudgetPolicy, ResolvedBudget
from extracot_server.engine.base import SamplingParams

BASELINES = 8
"""Cap mode: so many times the native reasoning expected, where no bound is set. What is measured
may raise it and not lower it: an answer takes its tokens however short the reasoning is."""
_MARKUP = 32
"""Tokens for level and tags, which are none of the reasoning that a client caps."""
_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "top_k": (-1, 2**31),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 2.0),
}


@dataclass(frozen=True, slots=True)
class ReplyDefaults:
    """Of one model. ``max_tokens``: 0 is whatever the context has room for, ``None`` not set."""

    sampling: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    max_tokens: int | None = None

    def fill(self, sampling: SamplingParams) -> SamplingParams:
        """The request's sampling, and the model's where it says nothing."""
        missing = {k: v for k, v in self.sampling.items() if getattr(sampling, k) is None}
        return replace(sampling, **missing) if missing else sampling  # type: ignore[arg-type]

    def bound(self, policy: BudgetPolicy, *, has_card: bool) -> int | None:
        """Tokens of a reply whose request has no bound; ``None``: what the context has room for."""
        if self.max_tokens is not None:
            return self.max_tokens or None
        if has_card:
            return None
        return round(BASELINES * max(policy.baseline[0], policy.assumed_baseline))

    def bound_of(
        self, resolved: ResolvedBudget, policy: BudgetPolicy, *, has_card: bool
    ) -> int | None:
        """The same for one request: a cap on reasoning that its client has set fits into it."""
        bound, cap = self.bound(policy, has_card=has_card), resolved.max_reasoning_tokens
        if bound is None or cap is None or cap == policy.reasoning_tokens_ceiling:
            return bound
        return max(bound, cap + policy.answer_reserve + _MARKUP)


def card_sampling(card: BudgetCard) -> dict[str, float]:
    """The sampling of the card's evaluation. Raises :class:`CardError` for a value out of range."""
    found: dict[str, float] = {}
    for name, (low, high) in _RANGES.items():
        value: Any = card.sampling.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CardError(f"{value!r} is not a number", field=f"sampling.{name}")
        if not low <= value <= high or (name == "top_k" and value != int(value)):
            why = f"{value:g} is not in [{low:g}, {high:g}]"
            raise CardError(why, field=f"sampling.{name}")
        found[name] = int(value) if name == "top_k" else float(value)
    return found


def card_max_tokens(card: BudgetCard) -> int | None:
    """How long the replies of the card's evaluation could be; ``None``: it does not say."""
    value: Any = card.sampling.get("max_tokens")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def measured_bound(card: BudgetCard, assumed: int) -> int | None:
    """Of a card without trained levels: as in cap mode without a card, by what was measured."""
    if card.is_trained or card.native is None:
        return None
    return round(BASELINES * max(card.native.reasoning.mean, assumed))
