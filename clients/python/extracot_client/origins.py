"""Who answered: a server's address, and what it tells of the model behind it.

A model's name is no checkpoint: rows are kept with this, so that those of another server, or of
another card or policy at the same address, are never taken for what is asked now.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from extracot_client.client import Extracot
from extracot_client.errors import ExtracotAPIError, UnexpectedReplyError
from extracot_client.types import BudgetCardPage, SweepRow, number_at

_BOUNDS = ("floor", "ceiling", "reasoning_tokens_ceiling")
"""What of an operator's policy changes a reply whose budget was asked for."""
_MEANT = {
    "mode": "mode",
    "card": "budget card",
    "prompt": "instruction, tags or tokenizer",
    "policy": "floor or ceiling",
    "assumed": "assumed baseline",
}
"""The parts of what a server tells, in words."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows come from; ``served`` is :func:`served_of`, ``None`` of a server that tells
    nothing."""

    server: str
    served: str | None = None

    def signed(self, row: SweepRow) -> SweepRow:
        """The row, with this in it."""
        return row.model_copy(update={"server": self.server, "served": self.served})

    def other(self, row: SweepRow) -> str | None:
        """What is another one where the row comes from, in words; ``None``: nothing that is known
        on both sides."""
        if row.server is not None and row.server != self.server:
            return (
                f"comes from {row.server}, and this is {self.server} (the same one, moved? Put the "
                "new address into the file)"
            )
        ours, theirs = _parts(self.served), _parts(row.served)
        differ = [
            meant
            for name, meant in _MEANT.items()
            if name in ours and name in theirs and ours[name] != theirs[name]
        ]
        return f"was made with another {' and '.join(differ)}" if differ else None


def origin_of(
    client: Extracot, model: str | None, *, ratios: bool, page: BudgetCardPage | None = None
) -> Origin:
    """Who answers now. ``ratios``: budgets are shares of what the server assumes, so that counts as
    well. ``page``: what it tells, where that was asked already."""
    if page is None:
        try:
            page = client.budget_card(model)
        except (ExtracotAPIError, UnexpectedReplyError):  # it tells nothing, and may answer
            page = BudgetCardPage()
    return Origin(client._core.settings.shown_url, served_of(page, ratios=ratios))


def served_of(page: BudgetCardPage, *, ratios: bool) -> str | None:
    """What decides replies besides the request, in short: ``mode=token card=1f3a… policy=…``.

    Of each part a hash. Not the weights: no server tells them, but a trained card is new with them.
    """
    if page.mode is None:
        return None
    assumed = number_at(page.baseline, "assumed_reasoning_tokens") if ratios else None
    parts = {"mode": page.mode, "card": "none" if page.card is None else _hash(page.card)}
    bounds = {name: page.policy.get(name) for name in _BOUNDS}
    parts |= {"prompt": _hash(page.prompt), "policy": _hash(bounds)}
    parts |= {} if assumed is None else {"assumed": f"{assumed:g}"}
    return " ".join(f"{name}={value}" for name, value in parts.items())


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:8]


def _parts(served: str | None) -> dict[str, str]:
    pairs = (part.partition("=") for part in (served or "").split())
    return {name: value for name, _, value in pairs}
