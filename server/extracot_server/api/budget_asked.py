"""Joins what a body's words say of the reasoning with its `budget`, its alias and its effort.

What disagrees is an error that names both fields. Knows neither bodies nor words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from extracot_server.api.budget_readers import Say
from extracot_server.budget.values import BudgetSpec, Target
from extracot_server.errors import BudgetError

NO_REASONING = "none"
_OF_ALL = "output_config.effort"  # Anthropic's is of the answer, too, so it goes with no thinking


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for in our words; ``effort_field`` is where its effort stands."""

    budget: BudgetSpec | None
    effort: Any
    effort_field: str


def join_words(says: Sequence[Say], asked: Asked, alias: Target | None) -> Asked:
    """``asked`` with what the words say: none of the reasoning, a cap on it, an effort, its end.

    Raises :class:`BudgetError` for words that disagree, with each other or with the rest.
    """
    bounded = _bounded(says, asked, alias)
    for say in says:
        if say.closing is not None:
            bounded = replace(bounded, budget=_closed(bounded.budget, say))
    return bounded


def _bounded(says: Sequence[Say], asked: Asked, alias: Target | None) -> Asked:
    for say in says:
        if say.effort is not None:
            if asked.effort not in (None, say.effort):
                raise _disagree(say.field, asked.effort_field)
            asked = replace(asked, effort=say.effort, effort_field=say.field)
    wanted = [say for say in says if say.thinks is True or say.cap]
    unwanted = next((say for say in says if say.thinks is False or say.cap == 0), None)
    if unwanted is not None:
        if wanted:
            raise _disagree(unwanted.field, wanted[0].field)
        return _without(unwanted.field, asked, alias)
    thinks = next((say for say in says if say.thinks is True), None)
    silent = thinks is not None and _silent(asked, alias)
    if thinks is not None and silent:
        raise _disagree(thinks.field, silent)
    capped_by = "budget.max_reasoning_tokens"
    for say in says:
        if say.cap is not None:
            asked = replace(asked, budget=_capped(asked.budget, say, capped_by))
            capped_by = say.field
    return asked


def hidden(says: Sequence[Say], shown: bool | None) -> bool | None:
    """``include_reasoning`` with what the words say of it."""
    own = "include_reasoning"
    told = [*says, Say(own, shown=shown)]
    hide, show = (
        next((say.field for say in told if say.shown is wanted), None) for wanted in (False, True)
    )
    if hide is None:
        return shown
    if show is not None:
        raise _disagree(*sorted((hide, show), key=own.__eq__))  # the word's own place first
    return False


def in_content(says: Sequence[Say]) -> bool:
    """Whether the reasoning stands in the content, its tags around it."""
    apart, inside = (
        next((say for say in says if say.separate is wanted), None) for wanted in (True, False)
    )
    if apart is not None and inside is not None:
        raise _disagree(inside.field, apart.field)
    return inside is not None


def _disagree(field: str, other: str) -> BudgetError:
    text = f"`{field}` and `{other}` disagree: send only one of them, or `budget` alone."
    return BudgetError(text, param=field)


def _silent(asked: Asked, alias: Target | None) -> str:
    """The field that asks for no reasoning, if any does."""
    budget = asked.budget
    if budget is not None and (budget.target == NO_REASONING or budget.max_reasoning_tokens == 0):
        return "budget"
    if budget is not None and (budget.target is not None or budget.level is not None):
        return ""
    if alias is not None:
        return "model" if alias == NO_REASONING else ""
    return asked.effort_field if asked.effort == NO_REASONING else ""


def _without(field: str, asked: Asked, alias: Target | None) -> Asked:
    """No reasoning, where nothing else asks for some."""
    budget = asked.budget
    if budget is not None and budget.asks and _silent(asked, alias) != "budget":
        raise BudgetError.of(field, "asks for no reasoning, but `budget` asks for some.")
    if alias not in (None, NO_REASONING):
        raise BudgetError.of(field, "asks for no reasoning, but `model` asks for a budget.")
    if budget is None:
        budget = BudgetSpec("none", given=NO_REASONING, target_field=field)
    elif not budget.asks:  # it says how reasoning ends, say, were there any
        given = {"ratio": NO_REASONING} | _as_object(budget)
        budget = replace(budget, target="none", given=given, target_field=field)
    if (
        asked.effort_field == _OF_ALL
    ):  # what it may be is checked with the budget, which comes first
        return replace(asked, budget=budget)
    if asked.effort not in (None, NO_REASONING):
        raise _disagree(field, asked.effort_field)
    return replace(asked, budget=budget, effort=None)


def _capped(budget: BudgetSpec | None, say: Say, capped_by: str) -> BudgetSpec:
    """A cap on whatever else is asked; one that is there already is that of ``capped_by``."""
    cap = say.cap
    if budget is None:
        return BudgetSpec(max_reasoning_tokens=cap, given={"max_reasoning_tokens": cap})
    if budget.max_reasoning_tokens not in (None, cap):
        raise _disagree(say.field, capped_by)
    given = {**_as_object(budget), "max_reasoning_tokens": cap}
    return replace(budget, max_reasoning_tokens=cap, given=given)


def _closed(budget: BudgetSpec | None, say: Say) -> BudgetSpec:
    """Whatever else is asked, with this closing."""
    if budget is None:
        budget = BudgetSpec(given={})
    if budget.closing not in (None, say.closing):
        raise _disagree(say.field, budget.closing_field)
    given = {**_as_object(budget), "closing": say.closing}
    return replace(budget, closing=say.closing, given=given, closing_field=say.field)


def _as_object(budget: BudgetSpec) -> dict[str, Any]:
    return budget.given if isinstance(budget.given, dict) else {"ratio": budget.given}
