"""What a request may use, before it runs, and what it has used, after it: quotas over a ledger.

Tokens are claimed when a request comes in (its prompt and all that it may generate) and settled
when it ends, however it does. Knows no HTTP and nothing of how replies are made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import count
from time import time
from typing import Literal

from extracot_server.admission.keys import ANONYMOUS, Principal
from extracot_server.admission.quotas import Quota
from extracot_server.admission.scheduler import Refusal, RefusedError
from extracot_server.ledger.ledger import Ledger
from extracot_server.ledger.store import Address, Claim, Claimed, StoreError
from extracot_server.ledger.windows import bucket, hour_of, iso, window

Lost = Literal["serve", "refuse"]
HOLDOUT = "holdout"
_RETRY_SECONDS = 5
_TELL_SECONDS = 10.0
"""How long to wait before the quotas that have been used meanwhile are told of again.

To tell of them a store reads all open claims, those of other processes too.
"""

_WATCHED_EVERY = 6
"""After so many of these times all quotas that were told of are told of again: other processes use
them too, and a day or a month ends."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a quota stands: what is left of it and when it begins anew, in Unix seconds."""

    quota: Quota
    left: int
    resets: int


@dataclass(frozen=True, slots=True)
class Used:
    """What a request has used. ``saved`` is its claimed saving, negative where it overspent."""

    prompt: int
    completion: int
    reasoning: int
    answer: int
    saved: float


_KINDS = tuple(field.name for field in fields(Used))


@dataclass(slots=True)
class Account:
    """One request's account: whose it is, since when, what it has claimed."""

    principal: Principal = ANONYMOUS
    model: str = ""
    at: float = 0.0
    claim_id: str | None = None
    standings: tuple[Standing, ...] = ()
    told_at: float = 0.0
    addresses: tuple[Address, ...] = ()
    """Of the counters of its key's quotas, in the windows in which it was admitted."""


class QuotaError(RefusedError):
    """A quota leaves no room for a request; ``standings`` are those of its key.

    ``wanted`` is 0 where nothing is left at all, whatever the request may take.
    """

    def __init__(
        self, standing: Standing, wanted: int, now: float, all_of_them: Sequence[Standing]
    ) -> None:
        quota = standing.quota
        asked = ""
        if quota.kind == "tokens" and wanted:
            asked = (
                f", and this request may take {wanted:,}: its prompt and all that it may generate. "
                "A smaller `max_tokens` takes less"
            )
        super().__init__(Refusal.QUOTA, max(1, round(standing.resets - now)))
        self.args = (
            f"Quota of {quota.owner}: {quota.limit:,} {quota.kind} a {quota.period}. "
            f"{standing.left:,} are left until {iso(standing.resets)}{asked}.",
        )
        self.standings = tuple(all_of_them)
        self.at = now


class StoreLostError(RefusedError):
    """Quotas cannot be checked, and the operator wants no request served without."""

    def __init__(self) -> None:
        super().__init__(Refusal.NO_STORE, _RETRY_SECONDS)


@dataclass(slots=True)
class Meter:
    """Claims and settles for all requests of a server; without a ledger it lets everything pass."""

    ledger: Ledger | None = None
    lost: Lost = "serve"
    clock: Callable[[], float] = time
    told: Callable[[Sequence[Standing]], object] = lambda standings: None
    """Takes how quotas stand by what was used; what is only claimed is given back mostly."""
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep
    _untold: set[Quota] = field(default_factory=set)
    _telling: asyncio.Task[None] | None = None
    _watched: set[Quota] = field(default_factory=set)
    _watching: asyncio.Task[None] | None = None
    _used_up: frozenset[Quota] = frozenset()
    """Quotas that had nothing left when they refused a request."""

    @property
    def shared(self) -> bool:
        """Whether what this process finds is added up with what others do."""
        return self.ledger is not None and self.ledger.shared

    async def soften(self, principal: Principal) -> Principal:
        """The principal, its budgets lowered by the quotas that are used up.

        Raises :class:`QuotaError` for a quota that has refused a request and has nothing left yet:
        the work on another is saved, and no other key's request waits for one more look at the
        store. Raises :class:`StoreLostError` where the operator wants that.
        """
        quotas = [quota for quota in principal.quotas if quota.budget is not None]
        refusing = [quota for quota in principal.quotas if quota.budget is None]
        if self._used_up.isdisjoint(refusing):
            refusing = []
        if not (quotas or refusing) or self.ledger is None:
            return principal
        now = self.clock()
        addresses = {quota: _address(quota, now) for quota in quotas + refusing}
        try:
            held = await self.ledger.values(set(addresses.values()))
        except StoreError:
            self._without_store()
            return principal
        found = {q: _standing(q, held[address], now) for q, address in addresses.items()}
        if quotas:
            self.told([found[quota] for quota in quotas])
            self._watch(quotas)
        if refusing:
            self._check_left([found[quota] for quota in refusing], now)
        for quota in quotas:
            if not found[quota].left:
                principal = lowered(principal, quota)
        return principal

    def _check_left(self, found: Sequence[Standing], now: float) -> None:
        """Refuse where one has nothing left; else forget that it had not."""
        over = [standing for standing in found if not standing.left]
        if over:
            raise QuotaError(max(over, key=lambda standing: standing.resets), 0, now, found)
        self._used_up -= {standing.quota for standing in found}

    async def reserve(self, account: Account, tokens: int) -> None:
        """Claim a request and its tokens on every quota that refuses.

        Raises :class:`QuotaError`, and :class:`StoreLostError` where the operator wants that.
        """
        account.at = now = self.clock()
        quotas = account.principal.quotas
        if self.ledger is None or not quotas:
            return
        account.addresses = tuple(_address(quota, now) for quota in quotas)
        limits: dict[Address, float] = {}
        amounts: dict[Address, float] = {}
        for quota, address in zip(quotas, account.addresses, strict=True):
            if quota.budget is None:
                limits[address] = min(quota.limit, limits.get(address, quota.limit))
                amounts[address] = tokens if quota.kind == "tokens" else 1
        if not limits:
            return
        account.claim_id = self.ledger.claim_id()
        try:
            claimed = await self.ledger.claim(Claim(account.claim_id, amounts, limits))
        except StoreError:
            try:
                self._without_store()
            except StoreLostError:
                self.drop(account)  # it may have been carried out all the same
                raise
            return
        except BaseException:  # the client left
            self.drop(account)
            raise
        self._judge(account, claimed, amounts, now)

    def _judge(
        self, account: Account, claimed: Claimed, amounts: Mapping[Address, float], now: float
    ) -> None:
        """Keep how the quotas stand; raise for the one that is longest in the way."""
        held = dict(claimed.used)
        if claimed.admitted:
            held = {address: held[address] + amount for address, amount in amounts.items()}
        refusing = [
            (quota, address)
            for quota, address in zip(account.principal.quotas, account.addresses, strict=True)
            if quota.budget is None
        ]
        found = [_standing(quota, held[address], now) for quota, address in refusing]
        account.standings, account.told_at = tuple(found), now
        if claimed.admitted:
            return
        account.claim_id = None
        self._tell_soon(account)
        self._used_up |= {standing.quota for standing in found if not standing.left}
        wanted = {quota: int(amounts[address]) for quota, address in refusing}
        # Others may have given back what was in the way before the counters were read.
        over = [s for s in found if s.left < wanted[s.quota]] or found
        worst = max(over, key=lambda standing: standing.resets)
        raise QuotaError(worst, wanted[worst.quota], now, found)

    def drop(self, account: Account) -> None:
        """Take a claim back: the request was not served."""
        if self.ledger is not None and account.claim_id is not None:
            self.ledger.settle(account.claim_id, {})
            account.claim_id = None
            self._tell_soon(account)

    def settle(self, account: Account, used: Used, found: Mapping[Address, float]) -> None:
        """Count what a request has used, in the windows in which it was admitted.

        ``found`` is what comparisons make of it, the holdout's and a canary's.
        """
        if self.ledger is None:
            return
        amounts: dict[Address, float] = dict(found)
        spent = {"tokens": used.prompt + used.completion, "requests": 1}
        for quota, address in zip(account.principal.quotas, account.addresses, strict=True):
            amounts[address] = spent[quota.kind]
        hour = bucket("usage", hour_of(account.at))
        whose = f"{account.principal.name} {account.model}"
        amounts[hour, f"{whose} requests"] = 1
        for kind in _KINDS:
            if amount := getattr(used, kind):
                amounts[hour, f"{whose} {kind}"] = amount
        self.ledger.settle(account.claim_id, amounts)
        account.claim_id = None
        self._tell_soon(account)

    def keep(self, quotas: Iterable[Quota]) -> None:
        """Tell of none but these any more, and soon how those stand whose limits are new.

        May be called from any thread."""
        quotas = frozenset(quotas)
        self._used_up &= quotas
        places = {(quota.owner, quota.kind, quota.period) for quota in self._watched}
        kept = {one for one in quotas if (one.owner, one.kind, one.period) in places}
        new = kept - self._watched
        self._watched, self._untold = kept, (self._untold & kept) | new

    def _tell_soon(self, account: Account) -> None:
        """Tell how the quotas of an account stand, once what it has used is in the store."""
        if account.principal.quotas:
            self._watch(account.principal.quotas)
            self._tell_of(account.principal.quotas)

    def _tell_of(self, quotas: Iterable[Quota]) -> None:
        self._untold.update(quotas)
        if self._untold and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._tell())

    def _watch(self, quotas: Iterable[Quota]) -> None:
        self._watched.update(quotas)
        if self._watching is None:
            self._watching = asyncio.create_task(self._tell_again())

    async def _tell_again(self) -> None:
        for turn in count(1):
            await asyncio.sleep(_TELL_SECONDS)
            self._tell_of(() if turn % _WATCHED_EVERY else self._watched)

    async def _tell(self) -> None:
        """One look at the store at once, and one a pause for all that were used since."""
        assert self.ledger is not None
        while self._untold:
            quotas, self._untold = self._untold, set()
            now = self.clock()
            addresses = {quota: _address(quota, now) for quota in quotas}
            try:
                used = await self.ledger.used(set(addresses.values()))
            except StoreError:
                self._untold |= quotas
            else:
                self.told([_standing(q, used[address], now) for q, address in addresses.items()])
            await self.pause(_TELL_SECONDS)

    async def found_before(self) -> dict[str, float]:
        """What holdouts have found so far, by name; raises ``StoreError``."""
        if self.ledger is None:
            return {}
        return (await self.ledger.read([HOLDOUT])).get(HOLDOUT, {})

    async def compared(self, bucket: str) -> dict[str, float] | None:
        """What all processes have found in a comparison; ``None`` where no store tells."""
        if self.ledger is None:
            return None
        try:
            return (await self.ledger.read([bucket])).get(bucket, {})
        except StoreError:
            return None

    async def close(self) -> None:
        """Write what is not in the store yet."""
        for task in (self._telling, self._watching):
            if task is not None:
                task.cancel()
        if self.ledger is not None:
            await self.ledger.close()

    def _without_store(self) -> None:
        if self.lost == "refuse":
            raise StoreLostError from None


def lowered(principal: Principal, quota: Quota) -> Principal:
    """The principal within the budget of a quota that is used up."""
    if quota.budget == "none":
        return replace(principal, reasoning_tokens_ceiling=0)
    assert quota.budget is not None
    ceiling = min(quota.budget, 1.0 if principal.ceiling is None else principal.ceiling)
    floor = None if principal.floor is None else min(principal.floor, ceiling)
    return replace(principal, ceiling=ceiling, floor=floor)


def _address(quota: Quota, at: float) -> Address:
    return bucket(quota.period.value, window(quota.period, at).start), quota.name


def _standing(quota: Quota, held: float, now: float) -> Standing:
    left = max(0, int(quota.limit - held))
    return Standing(quota, left, window(quota.period, now).end)
