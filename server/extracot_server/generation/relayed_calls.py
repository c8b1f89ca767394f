"""Calls of a reply as its server tells of them, part by part, as calls in their order.

Servers leave out numbers, ids or both, give several calls one number, say a name again with every
part, or say it last. Knows no tools and counts nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from extracot_server.engine.said import SaidCall
from extracot_server.tool_calls.tools import CallPart, new_call_id


@dataclass(slots=True)
class _Begun:
    """A call that has begun; ``number`` and ``id`` are its server's."""

    number: int
    id: str | None = None
    name: str | None = None
    length: int = 0
    """Characters of its arguments."""
    last: str = ""
    """The last of them that is no white space; empty: there is none."""
    _parts: list[str] = field(default_factory=list)

    def add(self, arguments: str) -> None:
        self._parts.append(arguments)
        self.length += len(arguments)
        self.last = arguments.rstrip()[-1:] or self.last

    @property
    def arguments(self) -> str:
        if len(self._parts) != 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0]

    @property
    def whole(self) -> bool:
        """Whether nothing can follow its arguments."""
        if self.last != "}":
            return False
        try:
            return isinstance(json.loads(self.arguments), dict)
        except (ValueError, RecursionError):
            return False

    def is_told_again(self, said: SaidCall) -> bool:
        """Whether a part is all of it, once more, as some servers send it at the end."""
        if said.id is None or said.id != self.id or said.name not in (None, self.name):
            return False
        if said.number != self.number or len(said.arguments) != self.length:
            return False
        return self.whole and said.arguments == self.arguments

    def is_ended_by(self, said: SaidCall) -> bool:
        """Whether a part with another id has more to say than what could follow here."""
        another = said.id is not None and said.id != self.id
        return another and bool(said.arguments.strip()) and self.whole

    def goes_on_with(self, said: SaidCall) -> bool:
        """Whether a part is one of its own; ids may change while arguments are not whole."""
        if said.name is None:
            return not self.is_ended_by(said)
        if said.name != self.name:
            return False
        if self.last and not self.whole:
            return True
        another = None not in (said.id, self.id) and said.id != self.id
        return not another and not (self.last and said.arguments.strip())


class RelayedCalls:
    """The calls of one reply so far."""

    def __init__(self) -> None:
        self._calls: list[_Begun] = []
        self._numbered: dict[int, int] = {}
        """Which of them a number of the server's means now."""
        self._identified: dict[str, int] = {}
        """Which of them an id of the server's means now."""
        self._latest: int | None = None
        """Which of them the last part was of."""
        self._unnamed: dict[int, _Begun] = {}
        """Calls whose name has not come, by number."""

    def take(self, said: SaidCall) -> CallPart | None:
        """The part that a server's part is; ``None``: there is nothing to tell yet."""
        at = self._meant(said)
        if at is None:
            return self._begin(said)
        call = self._calls[at]
        if call.is_told_again(said):
            return None
        if not call.goes_on_with(said):
            return self._begin(said)
        if call.id is None and said.id is not None and not call.whole:
            call.id = said.id
            self._identified.setdefault(said.id, at)
        call.add(said.arguments)
        self._numbered[said.number] = self._latest = at
        return CallPart(at, said.arguments) if said.arguments else None

    def _meant(self, said: SaidCall) -> int | None:
        """The call that a part names by its id or its number, or that it may go on with."""
        at = None if said.id is None else self._identified.get(said.id)
        if at is not None and said.number in (-1, self._calls[at].number):
            return at
        if said.number in self._unnamed:
            return None
        # A server that sends calls one by one may leave their numbers out.
        return self._latest if said.number < 0 else self._numbered.get(said.number)

    def _begin(self, said: SaidCall) -> CallPart | None:
        """A call that begins, or that waits for its name."""
        call = self._unnamed.pop(said.number, None)
        if call is None or call.is_ended_by(said):
            call = _Begun(said.number)
        call.id, call.name = said.id or call.id, said.name
        call.add(said.arguments)
        if call.name is None:
            self._unnamed[said.number] = call
            return None
        own = None if call.id in self._identified else call.id
        at = self._numbered[said.number] = self._latest = len(self._calls)
        self._calls.append(call)
        if call.id is not None:
            self._identified[call.id] = at
        return CallPart(at, call.arguments, own or new_call_id(), call.name)
