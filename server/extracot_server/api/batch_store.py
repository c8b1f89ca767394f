"""What the endpoints of files and batches share: the folder of who asks, lists, and being off."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal, TypedDict, TypeVar

from fastapi import Request

from extracot_server.api.auth import principal_of
from extracot_server.batches.records import FileNotFoundInStoreError, Record
from extracot_server.batches.runner import BatchRunner
from extracot_server.batches.store import KeyFolder
from extracot_server.errors import InvalidRequestError

R = TypeVar("R", bound=Record)
LEAST_KEPT, MOST_KEPT = 3600, 30 * 24 * 3600
"""Seconds that `expires_after` may say."""


class BatchesOffError(FileNotFoundInStoreError):
    """The server keeps no files."""

    def __init__(self) -> None:
        super().__init__(
            "This server keeps no files and runs no batches; it does with the setting "
            "`batch_folder` (--batch-folder).",
            code="batches_off",
        )


def runner_of(request: Request) -> BatchRunner:
    """What runs batches here; :class:`BatchesOffError` if nothing does."""
    runner: BatchRunner | None = request.app.state.batch_runner
    if runner is None:
        raise BatchesOffError
    return runner


def folder_of(request: Request) -> KeyFolder:
    """The files and batches of the key that sends this request."""
    return runner_of(request).store.of(principal_of(request).name)


class Ends(TypedDict):
    """What a list in OpenAI's shape says of its page, beside ``data``."""

    object: Literal["list"]
    first_id: str | None
    last_id: str | None
    has_more: bool


# When a file or batch was made, and its id: lists are in this order.
Place = tuple[int, str]


async def place_after(folder: KeyFolder, kind: type[Record], after: str | None) -> Place | None:
    """Where a page of files or batches begins: behind this one, though it was deleted since."""
    if after is None:
        return None
    made = await asyncio.to_thread(folder.made_at, kind, after)
    if made is None:
        raise InvalidRequestError.of("after", "must be an id of this list.")
    return made, after


def page_of(
    found: Sequence[R], after: Place | None, limit: int, *, newest_first: bool = True
) -> tuple[Sequence[R], Ends]:
    """A page of a list, and its ends."""
    begin = 0
    if after is not None:
        places = ((record.created_at, record.id) for record in found)
        begin = sum(place >= after if newest_first else place <= after for place in places)
    page = found[begin : begin + limit]
    return page, {
        "object": "list",
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
        "has_more": begin + limit < len(found),
    }


def keep_seconds(anchor: object, seconds: object, field: str) -> int | None:
    """How long something is to be kept by an ``expires_after``; ``None`` if it does not say."""
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidRequestError.of(f"{field}.anchor", 'must be "created_at".')
    if not isinstance(seconds, int) or not LEAST_KEPT <= seconds <= MOST_KEPT:
        what = f"must be an integer from {LEAST_KEPT} to {MOST_KEPT}."
        raise InvalidRequestError.of(f"{field}.seconds", what)
    return seconds
