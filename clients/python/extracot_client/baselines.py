"""A server's baseline as text: where the figure comes from, and how large it is.

A baseline is the reasoning a model would do without a budget. It is on the card (measured with the
checkpoint), measured by the server's holdout, or only assumed. Pure: a page in, text out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extracot_client.formatting import percent, tokens
from extracot_client.types import BudgetCardPage, number_at, value_at


def baseline_words(page: BudgetCardPage) -> str:
    """The whole of it, for a line of its own."""
    assumed, measured = _known(page, "assumed"), _known(page, "measured")
    match page.baseline.get("source"):
        case "assumed":
            return f"assumed, {assumed} reasoning tokens a request (never counted as savings)"
        case "holdout":
            return (
                f"measured on held-out requests, {measured} reasoning tokens a request "
                f"({assumed} were assumed before)"
            )
        case "card":
            return f"card, {_bins_words(page)}"
        case source:
            return str(source or "unknown")


def cap_words(page: BudgetCardPage) -> str:
    """What a ratio is a share of, on a server without a card."""
    assumed, measured = _known(page, "assumed"), _known(page, "measured")
    match page.baseline.get("source"):
        case "assumed":
            return f"a ratio is a hard cap of {assumed} assumed tokens"
        case "holdout":
            return f"a ratio is a hard cap of {measured} tokens, measured on held-out requests"
        case _:
            return "a ratio is a hard cap"


def native_range(page: BudgetCardPage) -> str | None:
    """The card's mean native reasoning, from the shortest prompts' bin to the longest's."""
    found = (number_at(entry, "reasoning", "mean") for entry in _bins(page))
    means = [mean for mean in found if mean is not None]
    if not means:
        return None
    low, high = tokens(min(means)), tokens(max(means))
    return low if low == high else f"{low} to {high}"


def holdout_words(page: BudgetCardPage) -> str | None:
    """The saving that the holdout has measured; ``None`` where there is none yet."""
    if not isinstance(page.holdout.get("saving_per_reply"), Mapping):
        return None
    mean, low, high = (
        _count(page.holdout, "saving_per_reply", name) for name in ("mean", "low", "high")
    )
    confidence = number_at(page.holdout, "confidence")
    sure = f"{percent(confidence)} " if confidence is not None else ""
    return f"{mean} reasoning tokens a reply ({sure}interval {low} to {high})"


def _bins_words(page: BudgetCardPage) -> str:
    bins = _bins(page)
    if not bins:
        return "which has none measured"
    return "; ".join(_bin_words(entry, only=len(bins) == 1) for entry in bins)


def _bin_words(entry: Mapping[str, Any], *, only: bool) -> str:
    if entry.get("max_prompt_tokens") is None:
        where = "" if only else "longer prompts: "
    else:
        where = f"prompts up to {_count(entry, 'max_prompt_tokens')}: "
    mean, p90 = _count(entry, "reasoning", "mean"), _count(entry, "reasoning", "p90")
    return f"{where}{mean} reasoning tokens natively, 9 of 10 below {p90}"


def _bins(page: BudgetCardPage) -> list[Mapping[str, Any]]:
    native = value_at(page.card, "baseline", "native") or []
    return [entry for entry in native if isinstance(entry, Mapping)]


def _known(page: BudgetCardPage, name: str) -> str:
    return _count(page.baseline, f"{name}_reasoning_tokens")


def _count(value: Any, *path: str) -> str:
    found = number_at(value, *path)
    return "some" if found is None else tokens(found)
