"""The rows that ``sweep``, ``calibrate`` and ``adherence`` keep, with who answered them."""

from __future__ import annotations

from pathlib import Path

from extracot_client.client import Extracot
from extracot_client.commands.common import note
from extracot_client.origins import origin_of
from extracot_client.sweep_files import RowStore
from extracot_client.types import BudgetCardPage


def open_rows(
    path: Path,
    client: Extracot,
    model: str | None,
    *,
    ratios: bool,
    page: BudgetCardPage | None = None,
) -> RowStore:
    """The file of rows, which refuses those of another server; see :func:`origin_of`."""
    store = RowStore(path, origin_of(client, model, ratios=ratios, page=page))
    if store.unsigned:
        note(
            f"{store.unsigned:,} rows of {path} do not say which server they come from (an earlier "
            "version wrote them): they count as this one's"
        )
    return store
