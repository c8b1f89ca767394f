"""Which batch to end where all wait for room that nothing makes but the end of one of them.

What a batch has written is no file yet, and its input is needed: a client can delete neither. A
limit of bytes that those alone fill holds up every batch below it until somebody cancels one. Knows
no event loop. Blocking.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

from extracot_server.batches.records import StoredBatch
from extracot_server.batches.room import Room
from extracot_server.batches.store import BatchStore


class Waiting(Protocol):
    """A batch that waits."""

    owner: str
    batch: StoredBatch


W = TypeVar("W", bound=Waiting)


def to_give_up(store: BatchStore, waiting: Sequence[W], nobody_else: bool) -> tuple[W, Room] | None:
    """The batch to end, and the room that it lacks; ``None`` where another could still go on.

    ``waiting`` are all batches of the keys whose batches all wait, ``nobody_else`` whether no other
    key has any. It is the youngest batch, and for the limit of all keys of the key that keeps most.
    """
    if _standstill(store, waiting, nobody_else) is None:
        return None
    store.usage.measure_anew()
    found = _standstill(store, waiting, nobody_else)
    if found is None or store.of(found[0].owner).make_room().left > 0:
        return None
    return found


def _standstill(
    store: BatchStore, waiting: Sequence[W], nobody_else: bool
) -> tuple[W, Room] | None:
    for owner in {run.owner for run in waiting}:
        room = store.of(owner).room(math.inf)  # as lines that wait measure it
        of_key = room.setting == "batch_key_bytes"
        if of_key:
            owners, ended = [owner], [run for run in waiting if run.owner == owner]
        elif nobody_else:
            owners, ended = store.owners(), list(waiting)
        else:
            continue
        if not _can_be_made(store, owners, 1 - room.left):
            return max(ended, key=lambda run: _order(store, run)), room
    return None


def _can_be_made(store: BatchStore, owners: Sequence[str], size: int) -> bool:
    """Whether these keys could delete so many bytes."""
    for owner in owners:
        if size > 0:
            size -= store.of(owner).deletable()
    return size <= 0


def _order(store: BatchStore, run: Waiting) -> tuple[int, int, str]:
    kept = store.usage.of(store.of(run.owner).path, math.inf)
    return kept, run.batch.created_at, run.batch.id
