"""Reports of usage beside requests: whatever becomes of one, quotas hold and no request waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import psycopg
import pytest

from extracot_server.ledger import reports
from extracot_server.ledger.ledger import Ledger
from extracot_server.ledger.reports import MOST_REPORTS, ReportRefusedError
from extracot_server.ledger.sqlite import SqliteStore
from extracot_server.ledger.store import Address, Claim, Store, StoreError
from extracot_server.ledger.windows import bucket
from tests.server.key_files import bearer, write
from tests.server.live import Live, serve, user
from tests.server.usage_stores import KINDS, postgres_server, redis_server

HOURS = [bucket("usage", 4_102_444_800 + 3600 * number) for number in range(200)]
SPOT = ("day:4102444800", "key a tokens")
Kept = dict[str, dict[str, float]]


@pytest.fixture(scope="module", params=["memory", *KINDS])
def kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Path], Store]]:
    """What makes an empty store of each kind."""
    if request.param in ("memory", "sqlite"):
        in_file = request.param == "sqlite"
        yield lambda folder: SqliteStore(folder / "usage.sqlite" if in_file else None)
        return
    folder, numbers = tmp_path_factory.mktemp(request.param), count(1)
    with (redis_server if request.param == "redis" else postgres_server)(folder) as server:

        def empty(_: Path) -> Store:
            base, first = server.url.rsplit("/", 1)
            if request.param == "redis":
                return replace(server, url=f"{base}/{next(numbers)}").store()
            name = f"n{next(numbers)}"
            with psycopg.connect(f"{base}/{first}", autocommit=True) as admin:
                admin.execute(f"CREATE DATABASE {name}".encode())
            return replace(server, url=f"{base}/{name}").store()

        yield empty


@pytest.fixture
def store(kind: Callable[[Path], Store], tmp_path: Path) -> Store:
    """An empty one."""
    return kind(tmp_path)


def read_by(ledger: Ledger) -> tuple[Store, str]:
    """What reads reports, and what it is called in a ledger."""
    own = ledger._reports._reader
    return (ledger._store, "memory") if own is None else (own, "own")


@contextmanager
def stuck(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Its reports do not get on meanwhile; set where one has begun."""
    reader, begun, goes_on = read_by(ledger)[0], threading.Event(), threading.Event()
    read = reader.read

    def waits(buckets: Sequence[str], key: str | None = None) -> Kept:
        begun.set()
        assert goes_on.wait(60)
        return read(buckets, key)

    monkeypatch.setattr(reader, "read", waits)
    try:
        yield begun
    finally:
        goes_on.set()


def amounts(*keys: str) -> dict[Address, float]:
    """One request of each of these keys in each hour."""
    return {(hour, f"{key} m requests"): 1.0 for hour in HOURS for key in keys}


@pytest.mark.anyio
async def test_a_report_reads_its_key_s_counters_alone(store: Store) -> None:
    ledger = Ledger(store)
    ledger.start()
    ledger.settle(None, amounts("a", "ab", "a-b", "a.", "A", "b", ""))
    await ledger.values([SPOT])  # what was used is written before that is answered
    for key in ("a", "a-b", "a.", ""):
        found = await ledger.report("x", HOURS, key)
        assert found == {hour: {f"{key} m requests": 1.0} for hour in HOURS}
    every = await ledger.report("x", [*HOURS, "usage:0"], None)
    assert set(every) == set(HOURS) and all(len(counters) == 7 for counters in every.values())
    await ledger.close()


@pytest.mark.anyio
async def test_a_hash_of_many_counters_is_read_whole(store: Store) -> None:
    """Redis gives it in several steps."""
    ledger = Ledger(store)
    ledger.start()
    names = {f"k{number} m requests": float(number + 1) for number in range(2500)}
    ledger.settle(None, {(HOURS[0], name): value for name, value in names.items()})
    await ledger.values([SPOT])
    assert await ledger.report("x", HOURS[:2], None) == {HOURS[0]: names}
    assert await ledger.report("x", HOURS[:2], "k77") == {HOURS[0]: {"k77 m requests": 78.0}}
    await ledger.close()


@pytest.mark.anyio
async def test_a_report_that_fails_loses_no_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    ledger = Ledger(store, lambda up, waiting: told.append(up))
    ledger.start()
    assert (await ledger.claim(Claim("x", {SPOT: 60}, {SPOT: 100}))).admitted
    with monkeypatch.context() as failing:

        def fails(buckets: Sequence[str], key: str | None = None) -> Kept:
            raise StoreError("usage store: canceling statement due to statement timeout")

        failing.setattr(read_by(ledger)[0], "read", fails)
        failing.setattr(ledger._store, "read", fails)
        with pytest.raises(StoreError, match="statement timeout"):
            await ledger.report("b", HOURS, "b")
        with pytest.raises(StoreError, match="statement timeout"):
            await ledger.read(["holdout"])
        assert not (await ledger.claim(Claim("y", {SPOT: 60}, {SPOT: 100}))).admitted
    assert await ledger.report("b", HOURS, "b") == {}, "and the next one is read"
    await ledger.close()
    assert told and all(told)


@pytest.mark.anyio
async def test_requests_do_not_wait_for_a_report(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(store)
    ledger.start()
    if read_by(ledger)[1] == "memory":  # one connection: in turns, a part at a time
        parts: list[int] = []
        read = store.read

        def counted(buckets: Sequence[str], key: str | None = None) -> Kept:
            parts.append(len(buckets))
            return read(buckets, key)

        monkeypatch.setattr(store, "read", counted)
        await ledger.report("b", HOURS, "b")
        assert sum(parts) == len(HOURS) and max(parts) <= reports.PART_BUCKETS < len(HOURS)
    else:
        with stuck(ledger, monkeypatch) as begun:
            report = asyncio.create_task(ledger.report("b", HOURS, "b"))
            await asyncio.to_thread(begun.wait, 60)
            assert (await ledger.claim(Claim("x", {SPOT: 60}, {SPOT: 100}))).admitted
            assert not report.done()
        assert await report == {}
    await ledger.close()


@pytest.mark.anyio
async def test_few_reports_at_once_and_one_of_each_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(SqliteStore(tmp_path / "usage.sqlite"))
    ledger.start()
    with stuck(ledger, monkeypatch) as begun:
        keys = [f"k{number}" for number in range(MOST_REPORTS)]
        tasks = [asyncio.create_task(ledger.report(key, HOURS, key)) for key in keys]
        await asyncio.to_thread(begun.wait, 60)
        for asker, code in (("k0", "concurrency"), ("another", "queue_full")):
            with pytest.raises(ReportRefusedError) as refused:
                await ledger.report(asker, HOURS, asker)
            assert (refused.value.reason, refused.value.retry_after) == (code, 1)
        tasks[3].cancel()  # its client has left: another one may ask
        await asyncio.wait([tasks[3]])
        tasks.append(asyncio.create_task(ledger.report("another", HOURS, "another")))
    assert [await task for task in tasks if not task.cancelled()] == [{}] * MOST_REPORTS
    assert await ledger.report("k0", HOURS, "k0") == {}
    await ledger.close()


@pytest.mark.anyio
async def test_a_report_takes_no_longer_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "REPORT_SECONDS", 0.05)
    ledger = Ledger(SqliteStore(tmp_path / "usage.sqlite"))
    ledger.start()
    with stuck(ledger, monkeypatch):
        for _ in range(2):
            with pytest.raises(StoreError, match="took too long"):
                await ledger.report("b", HOURS, "b")
        assert (await ledger.claim(Claim("x", {SPOT: 60}, {SPOT: 100}))).admitted
    await ledger.close()


# ---------------------------------------------------------------------------------------- over HTTP


@pytest.fixture(params=["serve", "refuse"])
def keyed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Live]:
    quota = [{"requests": 1, "per": "month"}]
    keys = write(
        tmp_path / "keys.yaml",
        {"name": "a", "key": "sk-a", "quotas": quota},
        {"name": "b", "key": "sk-b"},
        {"name": "boss", "key": "sk-boss", "admin": True},
    )
    store = str(tmp_path / "usage.sqlite")
    with serve(keys=keys, usage_store=store, usage_store_lost=request.param) as live:
        yield live


def ask(live: Live, name: str) -> int:
    body = {"messages": user(), "max_tokens": 20}
    headers = bearer(f"sk-{name}")
    return live.http.post("/v1/chat/completions", json=body, headers=headers).status_code


def test_no_key_lifts_quotas_by_a_report(keyed: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(store: SqliteStore, buckets: Sequence[str], key: str | None = None) -> Kept:
        raise StoreError("usage store: canceling statement due to statement timeout")

    assert [ask(keyed, "a") for _ in range(2)] == [200, 429]
    days = {"start": "2026-01-01", "end": "2027-01-01"}
    with monkeypatch.context() as failing:
        failing.setattr(SqliteStore, "read", fails)
        refused = keyed.http.get("/v1/usage", params=days, headers=bearer("sk-b"))
        assert refused.status_code == 503 and refused.headers["retry-after"] == "5"
        assert refused.json()["error"]["code"] == "usage_store_unavailable"
        assert [ask(keyed, "a") for _ in range(4)] == [429] * 4
    assert keyed.metric_sum("extracot_usage_store_up") == 1
    rows = keyed.http.get("/v1/usage", headers=bearer("sk-boss")).json()["data"]
    assert [(row["key"], row["requests"]) for row in rows] == [("a", 1)]


def test_a_second_report_of_a_key_is_told_to_come_back(
    keyed: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(name: str) -> Callable[[], int]:
        return lambda: keyed.http.get("/v1/usage", headers=bearer(f"sk-{name}")).status_code

    ledger = keyed.app.state.extracot.meter.ledger
    with ThreadPoolExecutor(2) as pool:
        with stuck(ledger, monkeypatch) as begun:
            first = pool.submit(get("b"))
            assert begun.wait(60)
            refused = keyed.http.get("/v1/usage", headers=bearer("sk-b"))
            assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
            assert "report of usage under way" in refused.json()["error"]["message"]
            other = pool.submit(get("boss"))
            assert ask(keyed, "a") == 200, "and requests go on"
        assert first.result(60) == other.result(60) == 200
