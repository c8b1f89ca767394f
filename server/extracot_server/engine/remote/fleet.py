"""The upstreams of an engine together: which one gets a request, who is drained, what changes.

Of those that are healthy and not drained, the lightest loads are looked at, and among these each
has its turn in proportion to its weight. Knows nothing of what a request holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from fractions import Fraction
from typing import Literal, Protocol, TypeVar

from extracot_server.engine.base import DrainRefusedError, GenerationRequest, UpstreamState
from extracot_server.engine.remote.upstream import Upstream


class _Weighted(Protocol):
    """What a choice goes by."""

    in_flight: int
    turn: Fraction
    last_used: int

    @property
    def weight(self) -> int: ...


W = TypeVar("W", bound=_Weighted)


def lightest(candidates: Sequence[W]) -> list[W]:
    """Those whose requests over weight are below the least that one more would make of any.

    With equal weights these are the ones with the fewest requests. With others a server that is
    idle does not shut out a heavier one that would still be lighter with one more.
    """
    least = min(Fraction(one.in_flight + 1, one.weight) for one in candidates)
    return [one for one in candidates if Fraction(one.in_flight, one.weight) < least]


class Turns:
    """Whose turn it is: of n choices among servers that stay, each gets n x weight / all weights.

    That is start-time fair queueing (Goyal, Vin and Cheng, 1996) with requests of one size: a
    server that comes back has no old turns to catch up on. Exact, as turns are fractions.
    """

    def __init__(self) -> None:
        self._now = Fraction()
        self._choices = 0

    def choose(self, candidates: Sequence[W]) -> W:
        """The next of the :func:`lightest`; of equals the one that has been idle longest."""
        chosen = min(
            lightest(candidates), key=lambda one: (max(one.turn, self._now), one.last_used)
        )
        self._now = max(chosen.turn, self._now)
        chosen.turn = self._now + Fraction(1, chosen.weight)
        self._choices += 1
        chosen.last_used = self._choices
        return chosen


class Fleet:
    """The upstreams, in the order of the settings. Belongs to one event loop."""

    def __init__(self, upstreams: Iterable[Upstream], canary: Collection[str] = ()) -> None:
        self.all: list[Upstream] = []
        self._turns = {False: Turns(), True: Turns()}
        self._changed = asyncio.Event()
        self.replace(upstreams, canary)

    def replace(self, upstreams: Iterable[Upstream], canary: Collection[str]) -> list[Upstream]:
        """Have these from now on, those named in ``canary`` for its requests; who has left."""
        before, self.all = self.all, list(upstreams)
        self._canary = frozenset(canary)
        self._turns = {False: Turns(), True: Turns()}
        for upstream in self.all:
            upstream.changed = self.notify
            upstream.turn, upstream.last_used = Fraction(), 0
        self.notify()
        return [upstream for upstream in before if upstream not in self.all]

    # ------------------------------------------------------------------------------ one request

    def usable(self, request: GenerationRequest, tried: Sequence[Upstream]) -> list[Upstream]:
        """Who may have this request, full or not: none where no other one is left.

        Those of its side; where there is none, the other side's, which is better than no reply. A
        reply that has begun may go on where all that are left are drained.
        """
        alive = [up for up in self.all if up.down is None and up not in tried]
        taking = [up for up in alive if not up.draining]
        if request.continues:
            taking = taking or alive
        side = request.placement is not None and request.placement.canary
        return [up for up in taking if self.is_canary(up) is side] or taking

    async def next(self, request: GenerationRequest, tried: Sequence[Upstream]) -> Upstream | None:
        """The one that gets this request, once one has room; ``None``: no other one is left."""
        while usable := self.usable(request, tried):
            room = [upstream for upstream in usable if not upstream.full]
            if room:
                return self._choose(request, room)
            await self._changed.wait()
        return None

    def _choose(self, request: GenerationRequest, room: Sequence[Upstream]) -> Upstream:
        chosen = self._turns[self.is_canary(room[0])].choose(room)
        place = request.placement
        if place is not None and self.is_canary(chosen) is not place.canary and self._canary:
            place.moved = True
        return chosen

    def notify(self) -> None:
        """Have everybody who waits for room look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def is_canary(self, upstream: Upstream) -> bool:
        """Whether it is for the canary's requests."""
        return upstream.name in self._canary

    # -------------------------------------------------------------------------------- its state

    @property
    def serves(self) -> bool:
        """Whether a new request would find one."""
        return any(upstream.down is None and not upstream.draining for upstream in self.all)

    @property
    def none_left(self) -> str:
        """Why a request finds none."""
        ill = [upstream for upstream in self.all if upstream.down is not None]
        if not ill:
            return "every upstream is drained"
        return f"no upstream is healthy (upstream {ill[0].url}: {ill[0].down})"

    def states(self) -> list[UpstreamState]:
        """How each of them stands."""
        return [self._state(upstream) for upstream in self.all]

    def _state(self, upstream: Upstream) -> UpstreamState:
        drained_by: Literal["file", "call"] | None = "call" if upstream.drained else None
        settings = upstream.settings
        return UpstreamState(
            name=settings.name,
            url=settings.url,
            weight=settings.weight,
            max_running=settings.max_running,
            canary=self.is_canary(upstream),
            down=upstream.down,
            drained_by="file" if settings.drain else drained_by,
            running=upstream.in_flight,
            taken=upstream.taken,
        )

    def drain(self, name: str, *, wanted: bool, try_only: bool = False) -> bool:
        """Give one no new requests, or some again; False: there is none of that name.

        ``try_only``: change nothing. Raises :class:`DrainRefusedError` where none would be left, or
        where the file drains it.
        """
        found = next((upstream for upstream in self.all if upstream.name == name), None)
        if found is None:
            return False
        others = [up for up in self.all if up is not found and not up.draining]
        none_left = all(self.is_canary(upstream) for upstream in others)
        none_well = found.down is None and all(upstream.down is not None for upstream in others)
        if wanted and (none_left or none_well):
            raise DrainRefusedError(f"{name} is the last upstream that new requests can go to")
        if not wanted and found.settings.drain:
            raise DrainRefusedError(
                f"the upstreams file drains {name}: change it there and send SIGHUP"
            )
        if not try_only:
            found.drained = wanted
            self.notify()
        return True
