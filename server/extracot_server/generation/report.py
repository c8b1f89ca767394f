"""Budget report and usage of a reply: tokens, and the saving against its baseline. Pure.

A saving is claimed only for a budgeted reply that ended by itself with an answer and whose baseline
was measured: by the holdout, or on the card, for a prompt like the card's problems to which the
model did reason (or was told not to). An assumed baseline, a native or empty reply, an abort, an
error or a ``length`` stop saves nothing; what the last overspends in all tokens counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from extracot.card import BudgetCard, LevelCard
from extracot.report import BudgetReport as BudgetReport  # also for those who hand one on
from extracot.report import CompletionTokensDetails, PromptTokensDetails
from extracot.report import Usage as Usage
from extracot.usage import realised_ratio, saved_tokens
from extracot_server.budget.limits import Limits
from extracot_server.budget.resolve import BudgetKind, ResolvedBudget, measured_ratio
from extracot_server.generation.request import PreparedChat

Enforcement = Literal["token", "cap", "token+cap", "effort", "effort+cap", "none"]

# How the report of several choices comes from theirs; what is in neither is alike in all.
_SUMMED = (
    *("reasoning_tokens", "grace_tokens", "answer_tokens"),
    *("overhead_tokens", "injected_tokens", "closing_tokens"),
)
_SHARED = (
    *("expected_ratio", "control_token", "chosen", "chosen_probability"),
    *("max_reasoning_tokens", "cap_reason", "closed_by"),
)
_ANNOUNCED = (
    *("requested", "source", "applied_ratio", "expected_ratio"),
    *("level", "control_token", "max_tokens", "arm"),
)


@dataclass(slots=True)
class ChoiceState:
    """Counts and facts of one choice; its report is made from it, however it ends.

    ``sampled`` counts ids the engine generated and that were kept, ``injected`` those the server
    wrote into the reply itself; reasoning + answer + overhead = sampled + injected.
    """

    limits: Limits
    level: LevelCard | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    reasoning: int = 0
    answer: int = 0
    overhead: int = 0
    sampled: int = 0
    injected: int = 0
    cap_hit: bool = False
    closing: int = 0
    """Ids of the closing, which are among those ``injected``."""
    cut_for_room: bool = False
    """Reasoning was ended for the answer's room, before the cap itself was reached."""
    looped: bool = False
    """Reasoning was ended because it repeated itself."""
    cut_off: str | None = None
    """The end of the reasoning where it was cut off; ``None``: it was not."""
    late_end: bool = False
    """The model ended its block after the server had: what stands before was reasoning."""
    escaped: bool | None = None
    """The answer goes on with reasoning that was cut off; ``None``: there is nothing to tell."""
    closed_by: Literal["model", "server"] | None = None
    unclosed: bool = False
    finish_reason: Literal["stop", "length", "content_filter"] | None = None
    stop: str | None = None
    """The stop string that ended the answer."""
    calls: bool | None = None
    """With tools and a format: whether the model chose calls; ``None``: it has not chosen."""
    prompt: int | None = None
    """Tokens of the prompt, where the server that has them says so."""
    cached: int | None = None
    """Of the prompt, those that its first request found in a prefix cache; ``None``: not known."""
    enforced: Enforcement | None = None
    """What keeps to the budget, where that is not known by the budget alone."""
    bounded: bool = True
    """Whether the cap on reasoning held, or would have."""


def announced(chat: PreparedChat) -> dict[str, Any]:
    """What is known before the first token: the ``x-extracot-budget`` header."""
    report = choice_report(chat, ChoiceState(chat.limits, chat.resolved.level))
    return {name: getattr(report, name) for name in _ANNOUNCED}


def choice_report(chat: PreparedChat, state: ChoiceState) -> BudgetReport:
    """The report of one choice from its state at the end."""
    resolved = chat.resolved
    limits, level = state.limits, state.level
    none = resolved.kind is BudgetKind.NONE
    no_tokens = none and limits.reasoning_cap < 1  # by a bound, whatever the budget is
    crowded_out = no_tokens and limits.cap_reason == "room"  # no budget and no operator did it
    cap_reason: str = "room" if state.cut_for_room else limits.cap_reason
    if state.looped:
        cap_reason = "loop"
    no_saving = _no_saving(chat, state, crowded_out=crowded_out)
    claims = no_saving is None
    auto = resolved.kind is BudgetKind.AUTO
    chosen = level.name if auto and level is not None else None
    return BudgetReport(
        requested=resolved.requested,
        source=resolved.source,
        source_fields=list(chat.request.budget.fields),
        applied_ratio=resolved.applied_ratio,
        expected_ratio=None if level is None else measured_ratio(level),
        level=resolved.label,
        control_token=level.token if level is not None else chat.control_token,
        enforcement=state.enforced or _enforcement(resolved, state),
        exact=chat.model.offers is None,
        calibrated=chat.calibrated,
        chosen=chosen,
        chosen_probability=state.probabilities.get(chosen) if chosen is not None else None,
        max_tokens=limits.max_tokens,
        max_reasoning_tokens=_held_cap(state, none=none),
        cap_reason=cap_reason if no_tokens or (state.bounded and not none) else None,
        cap_hit=state.cap_hit,
        closed_by=state.closed_by,
        unclosed=state.unclosed,
        escaped=state.escaped,
        reasoning_tokens=state.reasoning,
        grace_tokens=max(0, state.reasoning - limits.reasoning_cap) if limits.grace else 0,
        answer_tokens=state.answer,
        overhead_tokens=state.overhead,
        injected_tokens=state.injected,
        closing_tokens=state.closing,
        baseline_tokens=limits.baseline_tokens,
        baseline_source=limits.baseline_source,
        realised_ratio=realised_ratio(state.reasoning, limits.baseline_tokens),
        saved_tokens_estimate=(
            saved_tokens(state.reasoning, limits.baseline_tokens) if claims else None
        ),
        baseline_total_tokens=limits.baseline_total,
        total_saved_tokens_estimate=_total_saving(state, no_saving),
        no_saving=no_saving,
        arm=None if chat.arm is None else chat.arm.value,
        ignored_fields=list(chat.request.ignored_fields),
    )


def _held_cap(state: ChoiceState, *, none: bool) -> int | None:
    """The bound on reasoning that held; ``None``: none did."""
    if none:
        return 0
    return state.limits.reasoning_cap if state.bounded else None


def _no_saving(chat: PreparedChat, state: ChoiceState, *, crowded_out: bool) -> str | None:
    """Why a reply claims no saving, one of ``extracot.report.NO_SAVING``; ``None``: it does."""
    kind, source = chat.resolved.kind, state.limits.baseline_source
    whole = state.finish_reason == "stop" and state.answer > 0
    if kind is BudgetKind.NATIVE:
        return "native"
    if source is None:
        return "no_baseline"
    if source == "assumed":
        return "assumed_baseline"
    if source == "card" and not chat.like_card:
        return "unlike_card"
    if state.unclosed or crowded_out or not whole:
        return "unfinished"
    if state.reasoning == 0 and kind is not BudgetKind.NONE and source == "card":
        return "no_reasoning"
    return None


def _total_saving(state: ChoiceState, no_saving: str | None) -> float | None:
    """Reasoning and answer together. A reply that was cut or is empty did not do the same for
    less, but what it spent above the baseline was spent."""
    total = saved_tokens(state.reasoning + state.answer, state.limits.baseline_total)
    if total is not None and no_saving == "unfinished":
        return min(total, 0.0)
    return total if no_saving is None else None


def without_saving(report: BudgetReport) -> dict[str, Any]:
    """What to change in the report of a reply that no client got whole."""
    claimed = report.no_saving is None
    return {
        "saved_tokens_estimate": None,
        "total_saved_tokens_estimate": None,
        "no_saving": "unfinished" if claimed else report.no_saving,
    }


def total_report(choices: Sequence[BudgetReport]) -> BudgetReport:
    """The report of a whole reply: the choice's own for one, sums for several.

    What differs between choices (the level an ``auto`` reply chose) is ``None`` in the total.
    """
    first = choices[0]
    if len(choices) == 1:
        return first

    def values(name: str) -> list[Any]:
        return [getattr(choice, name) for choice in choices]

    def shared(name: str) -> Any:
        found = values(name)
        return found[0] if found.count(found[0]) == len(found) else None

    combined: dict[str, Any] = {name: sum(values(name)) for name in _SUMMED}
    combined |= {name: any(values(name)) for name in ("cap_hit", "unclosed")}
    combined |= {name: shared(name) for name in _SHARED}
    escapes = [escaped for escaped in values("escaped") if escaped is not None]
    combined["escaped"] = any(escapes) if escapes else None
    for name in ("baseline_tokens", "baseline_total_tokens"):
        combined[name] = None if None in values(name) else sum(values(name))
    for name in ("saved_tokens_estimate", "total_saved_tokens_estimate"):
        savings = [saving for saving in values(name) if saving is not None]
        combined[name] = sum(savings) if savings else None
    reasons = [reason for reason in values("no_saving") if reason is not None]
    combined["no_saving"] = reasons[0] if len(reasons) == len(choices) else None
    combined["realised_ratio"] = realised_ratio(
        combined["reasoning_tokens"], combined["baseline_tokens"]
    )
    return first.model_copy(update=combined)


def expected_share(card: BudgetCard, level: LevelCard) -> float | None:
    """Reasoning tokens over the native baseline that a card expects of a level.

    The card's ratios are against level 1.0 and a reply's are against native reasoning, so the
    card's are converted by its own baselines, where it has both: ratio x full / native, means over
    the same bins weighted by their problems. ``None`` for a level that was not measured.
    """
    ratio = measured_ratio(level)
    if ratio is None or card.baseline is None:
        return ratio
    pairs = [
        (native, full)
        for native in card.baseline.native
        for full in card.baseline.full
        if native.max_prompt_tokens == full.max_prompt_tokens
    ]
    natively = sum(native.n * native.reasoning.mean for native, _ in pairs)
    fully = sum(native.n * full.reasoning.mean for native, full in pairs)
    return ratio * fully / natively if natively and fully else ratio


def usage_of(chat: PreparedChat, states: Sequence[ChoiceState]) -> Usage:
    """Usage of a request: the prompt once, generated tokens of every choice."""
    told = [state.prompt for state in states if state.prompt is not None]
    prompt = max(told) if told else chat.prompt_tokens
    completion = sum(state.sampled for state in states)
    reasoning = sum(state.reasoning for state in states)
    cached = _cached(states)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=(
            None if cached is None else PromptTokensDetails(cached_tokens=min(cached, prompt))
        ),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=reasoning),
    )


def _cached(states: Sequence[ChoiceState]) -> int | None:
    """Tokens of the prompt, which counts once, that were cached before any choice had it.

    That is the fewest: a choice may find in the cache what the one before it has just computed.
    """
    found = [state.cached for state in states]
    known = [cached for cached in found if cached is not None]
    return min(known) if len(known) == len(found) else None


def _enforcement(resolved: ResolvedBudget, state: ChoiceState) -> Enforcement:
    """A cap counts as enforcement when a budget asked for it; room for the answer does not."""
    capped = state.limits.cap_reason != "room" or resolved.max_reasoning_tokens is not None
    match resolved.kind:
        case BudgetKind.LEVEL | BudgetKind.AUTO:
            return "token+cap" if capped or resolved.hard else "token"
        case BudgetKind.CAP if resolved.by_effort:
            return "effort+cap" if capped or resolved.hard else "effort"
        case BudgetKind.CAP:
            return "cap"
        case BudgetKind.NONE:
            return "none"
        case _:
            return "cap" if capped else "none"
