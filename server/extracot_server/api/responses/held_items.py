"""Output items of replies, held for a while so that a later request can send them by their ids.

``{"type": "item_reference", "id": …}`` is what clients send that count on OpenAI's store. Items are
held in this process's memory, apart for each key; a server's other processes do not know them.
Nothing else of a request or a reply is held.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

from starlette.requests import Request

from extracot_server.api.auth import principal_of
from extracot_server.api.errors import BodyTooLargeError
from extracot_server.api.responses.request import ResponsesRequest
from extracot_server.budget.values import shown
from extracot_server.errors import InvalidRequestError

_COST = 512  # bytes of an entry besides its JSON, roughly
_UNKNOWN = (
    "names {id}, which is not held here: items are kept in memory, for a time, by the process "
    "that wrote them. Send the item itself, and `store: false`, by which clients learn to."
)


class _Entry(NamedTuple):
    text: bytes
    until: float


@dataclass(slots=True)
class _Shelf:
    """Items of one key, the ones that were used last at the end."""

    entries: OrderedDict[str, _Entry] = field(default_factory=OrderedDict)
    size: int = 0

    def take(self, item_id: str) -> _Entry | None:
        """An entry, which is then no longer here."""
        entry = self.entries.pop(item_id, None)
        self.size -= _size(entry) if entry is not None else 0
        return entry

    def put(self, item_id: str, entry: _Entry) -> None:
        """An entry in the last place."""
        self.take(item_id)
        self.entries[item_id] = entry
        self.size += _size(entry)

    def drop_first(self) -> None:
        """What was not used for longest is forgotten."""
        self.take(next(iter(self.entries)))


def _size(entry: _Entry) -> int:
    return len(entry.text) + _COST


class HeldItems:
    """Items by owner and id: for ``seconds`` after their last use, at most ``max_bytes`` in all.

    Where they would be more, the owner with the most loses those not used for longest, so that no
    key can push out another's. ``max_bytes`` 0: none is held.
    """

    def __init__(
        self, max_bytes: int, seconds: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._clock = clock
        self._shelves: dict[str, _Shelf] = {}

    @property
    def size(self) -> int:
        """Bytes in use."""
        return sum(shelf.size for shelf in self._shelves.values())

    def holder(self, owner: str) -> Callable[[Mapping[str, Any]], None] | None:
        """What holds the items of one reply to this owner; ``None`` where none is held."""
        return partial(self.hold, owner) if self._max_bytes else None

    def hold(self, owner: str, item: Mapping[str, Any]) -> None:
        """Keep an item, as JSON: a later change of it is none of what is kept."""
        entry = _Entry(json.dumps(item).encode(), self._clock() + self._seconds)
        self._forget_old()
        self._shelves.setdefault(owner, _Shelf()).put(str(item["id"]), entry)
        while self.size > self._max_bytes:
            largest = max(self._shelves.values(), key=lambda shelf: shelf.size)
            largest.drop_first()
        self._drop_empty()

    def find(self, owner: str, item_id: str) -> bytes | None:
        """An item's JSON, which is then kept for longer; ``None``: not held, or another's."""
        self._forget_old()
        shelf = self._shelves.get(owner)
        entry = shelf.take(item_id) if shelf is not None else None
        if shelf is None or entry is None:
            return None
        shelf.put(item_id, entry._replace(until=self._clock() + self._seconds))
        return entry.text

    def _forget_old(self) -> None:
        now = self._clock()
        for shelf in self._shelves.values():
            while shelf.entries and next(iter(shelf.entries.values())).until <= now:
                shelf.drop_first()
        self._drop_empty()

    def _drop_empty(self) -> None:
        self._shelves = {owner: shelf for owner, shelf in self._shelves.items() if shelf.entries}


def held_items(request: Request) -> HeldItems:
    """The items that the app of this request holds."""
    held: HeldItems = request.app.state.held_items
    return held


def with_held_items(request: Request, body: ResponsesRequest, limit: int) -> ResponsesRequest:
    """The body with the items that it names in their places.

    Raises :class:`InvalidRequestError` for one that is not held or is named twice, and
    :class:`BodyTooLargeError` where the body would have more than ``limit`` bytes with them.
    """
    if isinstance(body.input, str) or not any(map(is_reference, body.input)):
        return body
    held, owner = held_items(request), principal_of(request).name
    size, seen, found = request.state.received.size, set(), []
    for index, item in enumerate(body.input):
        if not is_reference(item):
            found.append(item)
            continue
        where, item_id = f"input[{index}].id", item.get("id")
        if not isinstance(item_id, str) or not item_id:
            raise InvalidRequestError.of(where, "must be a string that is not empty.")
        text = held.find(owner, item_id)
        if text is None:
            what = _UNKNOWN.format(id=shown(item_id))
            raise InvalidRequestError.of(where, what, "item_not_found")
        if item_id in seen:
            raise InvalidRequestError.of(where, "is named a second time.")
        seen.add(item_id)
        size += len(text)
        if size > limit:
            raise BodyTooLargeError(limit)
        found.append(json.loads(text))
    request.state.received = replace(request.state.received, size=size)
    return body.model_copy(update={"input": found})


def is_reference(item: Mapping[str, Any]) -> bool:
    """Whether an item stands for an earlier one; OpenAI's type of it may be left out."""
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "id" in item and "role" not in item)
