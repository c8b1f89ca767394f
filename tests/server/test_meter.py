"""What a quota's claim, settlement and refusal tell: of what was used, not of what was claimed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from extracot_server.admission.keys import Principal
from extracot_server.admission.quotas import Period, Quota
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from extracot_server.generation.request import ChatRequest, PreparedChat
from extracot_server.generation.service import ChatService
from extracot_server.ledger.ledger import Ledger
from extracot_server.ledger.meter import Account, Meter, QuotaError, Standing, Used
from extracot_server.ledger.sqlite import SqliteStore
from extracot_server.ledger.store import Address, Claim, Claimed, StoreError
from extracot_server.ledger.windows import bucket, window
from extracot_server.observability.metrics import ServerMetrics
from tests.server.key_files import OTHER, SECRET, bearer, write
from tests.server.live import Live, serve, user, wait_for

NOW = 4_102_488_000.0  # noon of 1 January 2100: counters of the past go
QUOTA = Quota("key a", "tokens", 100, Period.DAY)
OWNER = Principal("a", quotas=(QUOTA,))
SPENT = Used(prompt=3, completion=4, reasoning=2, answer=2, saved=0.0)


@asynccontextmanager
async def metered(path: Path | None = None) -> AsyncIterator[tuple[Meter, list[int]]]:
    """A meter, and what it tells to be left of the quota, a look at a time."""
    left: list[int] = []

    def told(standings: Sequence[Standing]) -> None:
        left.extend(standing.left for standing in standings)

    meter = Meter(Ledger(SqliteStore(path)), clock=lambda: NOW, told=told)
    assert meter.ledger is not None
    meter.ledger.start()
    yield meter, left
    await meter.close()


async def until(left: list[int], wanted: int) -> None:
    await asyncio.to_thread(wait_for, lambda: left[-1:] == [wanted])


@pytest.mark.anyio
async def test_a_refusal_stands_though_there_is_room_again_when_it_is_told() -> None:
    class Late:
        def claim_id(self) -> str:
            return "c"

        async def claim(self, wanted: Claim) -> Claimed:
            return Claimed(False, dict.fromkeys(wanted.amounts, 0.0))

        async def used(self, addresses: Collection[Address]) -> dict[Address, float]:
            return dict.fromkeys(addresses, 0.0)

    meter = Meter(Late(), clock=lambda: NOW)  # type: ignore[arg-type]
    with pytest.raises(QuotaError, match="100 are left"):
        await meter.reserve(Account(OWNER), 10)


@pytest.mark.anyio
async def test_what_is_told_is_what_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extracot_server.ledger.meter._TELL_SECONDS", 0)
    async with metered() as (meter, left):
        first, second = Account(OWNER), Account(OWNER)
        await meter.reserve(first, 60)
        await meter.reserve(second, 40)
        assert [found.left for found in second.standings] == [0], "its client hears of claims"
        meter.settle(first, SPENT, {})
        await until(left, 93)
        with pytest.raises(QuotaError, match="53 are left"):
            await meter.reserve(Account(OWNER), 60)
        meter.drop(second)
        await meter.reserve(third := Account(OWNER), 90)
        meter.settle(third, SPENT, {})
        await until(left, 86)
        assert set(left) == {93, 86}


@pytest.mark.anyio
async def test_what_others_have_claimed_is_not_told_either(tmp_path: Path) -> None:
    path = tmp_path / "usage.sqlite"
    async with metered(path) as (one, left), metered(path) as (two, _):
        await two.reserve(Account(OWNER), 60)
        await one.reserve(mine := Account(OWNER), 40)
        one.settle(mine, SPENT, {})
        await until(left, 93)


@pytest.mark.anyio
async def test_an_idle_process_tells_of_what_others_use_of_new_limits_and_of_a_new_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extracot_server.ledger.meter._TELL_SECONDS", 0.01)
    path = tmp_path / "usage.sqlite"
    async with metered(path) as (one, left), metered(path) as (two, _):
        await one.reserve(mine := Account(OWNER), 40)
        one.settle(mine, SPENT, {})
        await until(left, 93)
        await two.reserve(other := Account(OWNER), 40)
        two.settle(other, SPENT, {})
        await until(left, 86)
        one.keep([replace(QUOTA, limit=1000), replace(QUOTA, owner="key b")])
        await until(left, 986)
        one.clock = lambda: NOW + 86400
        await until(left, 1000)
        one.keep([])
        await asyncio.sleep(0.05)
        left.clear()
        await asyncio.sleep(0.2)
        assert not left, "a quota that is gone is told of no more"


@pytest.mark.anyio
async def test_a_store_is_looked_at_once_a_pause_and_once_after_the_last_request() -> None:
    looks: list[float] = []
    pauses: list[float] = []
    go_on = asyncio.Event()
    spent = 0.0

    class Counting:
        def settle(self, claim_id: str | None, amounts: Mapping[Address, float]) -> None:
            nonlocal spent
            spent += sum(n for (_, name), n in amounts.items() if name == QUOTA.name)

        async def used(self, addresses: Collection[Address]) -> dict[Address, float]:
            return dict.fromkeys(addresses, spent)

        async def close(self) -> None:
            pass

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await go_on.wait()
        go_on.clear()

    async def turns() -> None:
        for _ in range(9):
            await asyncio.sleep(0)

    meter = Meter(
        Counting(),  # type: ignore[arg-type]
        clock=lambda: NOW,
        told=lambda standings: looks.extend(standing.left for standing in standings),
        pause=pause,
    )
    address = bucket("day", window(Period.DAY, NOW).start), QUOTA.name
    account = Account(OWNER, at=NOW, addresses=(address,))
    for _ in range(3):
        meter.settle(account, SPENT, {})
        await turns()
    assert (looks, pauses) == ([93], [10.0]), "at once, then no more for a while"
    go_on.set()
    await turns()
    assert looks == [93, 79], "the last ones too"
    go_on.set()
    await turns()
    assert len(looks) == len(pauses) == 2, "nothing is used"
    meter.settle(account, SPENT, {})
    await turns()
    assert looks == [93, 79, 72], "at once after an idle time"
    await meter.close()


@pytest.mark.anyio
async def test_a_look_that_fails_is_no_reason_to_lose_the_store() -> None:
    class Slow(SqliteStore):
        def used(self, addresses: Collection[Address]) -> dict[Address, float]:
            raise StoreError("usage store: too many claims to read in time")

    up: list[bool] = []
    ledger = Ledger(Slow(None), told=lambda is_up, waiting: up.append(is_up))
    ledger.start()
    meter = Meter(ledger, lost="refuse", clock=lambda: NOW)
    account = Account(OWNER)
    await meter.reserve(account, 60)
    meter.settle(account, SPENT, {})
    with pytest.raises(StoreError, match="too many claims"):
        await ledger.used(account.addresses)
    await meter.reserve(Account(OWNER), 60)
    await meter.close()
    assert up and all(up)


def test_a_quota_that_is_gone_is_not_shown_by_a_request_that_ends_later() -> None:
    metrics = ServerMetrics(CollectorRegistry())

    def shown() -> list[float]:
        (family,) = metrics.quotas.used.collect()
        return [round(sample.value, 3) for sample in family.samples]

    late = [Standing(QUOTA, 25, 0)]
    metrics.quotas.show(late)
    assert shown() == [0.75]
    metrics.quotas.keep([Quota("key b", "tokens", 100, Period.DAY)])
    metrics.quotas.show(late)
    assert shown() == []


def test_the_gauge_falls_to_what_a_request_has_used(tmp_path: Path) -> None:
    """Without `max_tokens` a request claims nearly all of the quota."""
    quotas = [{"tokens": 4300, "per": "day"}]
    keys = write(tmp_path / "keys.yaml", {"name": "one", "key": "sk-one", "quotas": quotas})
    room = ScriptedBehaviour(max_model_len=4096)
    with serve(room, keys=keys, usage_store="memory") as live:
        body = {"messages": user(), "budget": 0.2}
        reply = live.http.post("/v1/chat/completions", json=body, headers=bearer("sk-one"))
        left = int(reply.headers["x-ratelimit-remaining-tokens"])
        assert left < 430, "what a client may still use is less what is claimed"
        share = reply.json()["usage"]["total_tokens"] / 4300

        def shown() -> float:
            return live.metric_sum("extracot_quota_used_ratio", owner="key one")

        live.wait_for(lambda: shown() > 0)
        assert shown() == pytest.approx(share, abs=1e-3) and share < 0.1


def ask(live: Live, key: str) -> httpx.Response:
    body = {"messages": user(), "max_tokens": 20}
    return live.http.post("/v1/chat/completions", json=body, headers=bearer(key))


def test_a_key_without_a_request_left_costs_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its second refusal on, until its quota begins anew."""
    day = {"requests": 3, "per": "day"}
    entries = [{"name": "a", "key": SECRET, "quotas": [day]}, {"name": "b", "key": OTHER}]
    with serve(keys=write(tmp_path / "keys.yaml", *entries)) as live:
        live.app.state.extracot.meter.clock = lambda: NOW
        prepared: list[str] = []
        service: ChatService = live.app.state.extracot.services["scripted"]
        real = service.prepare

        def prepare(request: ChatRequest, *others: Any) -> PreparedChat:
            prepared.append(request.principal.name)
            return real(request, *others)

        monkeypatch.setattr(service, "prepare", prepare)
        assert [ask(live, SECRET).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert len(prepared) == 4
        refused = [ask(live, SECRET) for _ in range(3)]
        assert len(prepared) == 4, "a prompt was counted for nothing"
        for reply in refused:
            assert reply.status_code == 429 and reply.headers["retry-after"] == str(12 * 3600)
            assert reply.headers["x-ratelimit-remaining-requests"] == "0"
            assert "3 requests a day. 0 are left until" in reply.json()["error"]["message"]
        assert live.metric_sum("extracot_rejected_total", reason="insufficient_quota") == 4
        assert ask(live, OTHER).status_code == 200
        live.app.state.extracot.meter.clock = lambda: NOW + 12 * 3600
        assert ask(live, SECRET).status_code == 200, "a new day"
        assert ask(live, SECRET).headers["x-ratelimit-remaining-requests"] == "1"
