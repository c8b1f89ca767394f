"""Calls of a reply as its server tells of them, part by part, as calls in their order.

Servers leave out numbers, ids or both, give several calls one number, say a name again with every
part, or say it last. Knows no tools and counts nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from extracot_server.engine.said import SaidCall
from extracot_server.tool_calls.tools import CallPart, new_call_id


@dataclass(slots=True)
class _Begun:
    """A call that has begun; ``id`` is its server's."""

    id: str | None
    arguments: str

    @property
    def whole(self) -> bool:
        """Whether nothing can follow its arguments."""
        try:
            return isinstance(json.loads(self.arguments), dict)
        except (ValueError, RecursionError):
            return False


class RelayedCalls:
    """The calls of one reply so far."""

    def __init__(self) -> None:
        self._calls: list[_Begun] = []
        self._numbered: dict[int, int] = {}
        """Which of them a number of the server's means now."""
        self._unnamed: dict[int, SaidCall] = {}
        """What has come of calls whose name has not, by number."""

    def take(self, said: SaidCall) -> CallPart | None:
        """The part that a server's part is; ``None``: there is nothing to tell yet."""
        at = self._goes_on(said)
        if at is not None:
            self._calls[at].arguments += said.arguments
            return CallPart(at, said.arguments) if said.arguments else None
        if (before := self._unnamed.pop(said.number, None)) is not None:
            arguments = before.arguments + said.arguments
            said = SaidCall(said.number, said.id or before.id, said.name, arguments)
        if said.name is None:
            self._unnamed[said.number] = said
            return None
        own = None if said.id in [call.id for call in self._calls] else said.id
        at = self._numbered[said.number] = len(self._calls)
        self._calls.append(_Begun(said.id, said.arguments))
        return CallPart(at, said.arguments, own or new_call_id(), said.name)

    def _goes_on(self, said: SaidCall) -> int | None:
        """The call that a part goes on with; ``None``: it begins one."""
        if said.number < 0:
            return self._unnumbered(said)
        at = self._numbered.get(said.number)
        if at is None or said.name is None:
            return at
        call = self._calls[at]
        another = said.id is not None and said.id != call.id
        return None if another or (said.arguments.strip() and call.whole) else at

    def _unnumbered(self, said: SaidCall) -> int | None:
        """A server that sends calls one by one may leave their numbers out."""
        for at, call in enumerate(self._calls):
            if said.id is not None and said.id == call.id:
                return at
        return len(self._calls) - 1 if self._calls and said.name is None else None
