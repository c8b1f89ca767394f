"""What a client writes as a budget, read: a ratio, a word, or an object; never judged for a model.

Every JSON value becomes a :class:`BudgetSpec` or a :class:`BudgetError` that names the key at fault
and lists what is allowed. Knows no policy and no card.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Literal

from extracot_server.errors import BudgetError

Target = float | Literal["auto", "native", "none"]
WORDS = ("auto", "native", "none")
ALLOWED = (
    'a number in (0, 1], "auto", "native", "none", or an object with `ratio` (one of these), '
    '`max_reasoning_tokens` (an integer of 0 or more) and `enforce` ("soft" or "hard")'
)
_KEYS = ("ratio", "max_reasoning_tokens", "enforce")


@dataclass(frozen=True, slots=True)
class BudgetSpec:
    """One client's ``budget`` value, validated. ``None`` fields were not said."""

    target: Target | None = None
    max_reasoning_tokens: int | None = None
    hard: bool = False


def parse_budget(value: Any) -> BudgetSpec:
    """Read a JSON ``budget`` value; raise :class:`BudgetError` naming the key at fault."""
    if not isinstance(value, dict):
        return BudgetSpec(target=parse_target(value))
    for key in value:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise BudgetError(
                f"Unknown key {shown(key)} in `budget`.{hint} Allowed: {ALLOWED}.",
                param=f"budget.{key[:64]}",
            )
    given = {key: item for key, item in value.items() if item is not None}
    if not given:
        raise BudgetError(f"`budget` says nothing. Allowed: {ALLOWED}.", param="budget")
    target = parse_target(given["ratio"], "budget.ratio") if "ratio" in given else None
    cap = given.get("max_reasoning_tokens")
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 0):
        raise BudgetError(
            f"`budget.max_reasoning_tokens` must be an integer of 0 or more, not {shown(cap)}.",
            param="budget.max_reasoning_tokens",
        )
    enforce = given.get("enforce", "soft")
    if enforce not in ("soft", "hard"):
        raise BudgetError(
            f'`budget.enforce` must be "soft" or "hard", not {shown(enforce)}.',
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
    raise BudgetError(f"`{param}` is {shown(value)}. Allowed: {allowed}.", param=param)


def parse_alias(text: str) -> Target | None:
    """The part of a model name after ``@``: ``0.4``, ``auto``, …; ``None`` if it is no budget."""
    if text in WORDS:
        return text  # type: ignore[return-value]  # membership was just checked
    try:
        ratio = float(text)
    except ValueError:
        return None
    return ratio if 0 < ratio <= 1 else None


def shown(value: Any) -> str:
    """A value as it may be quoted in an error: cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
