"""Stores of usage: all three do the same, on real servers; and the ledger's thread over them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extracot_server.admission.quotas import Period
from extracot_server.ledger.ledger import MOST_AT_ONCE, Ledger
from extracot_server.ledger.sql import SqlStore
from extracot_server.ledger.sqlite import SqliteStore
from extracot_server.ledger.store import LOST_SECONDS, Amounts, Claim, Claimed, Store, StoreError
from extracot_server.ledger.windows import window
from tests.server.live import wait_for
from tests.server.usage_stores import KINDS, postgres_server, redis_server

NOW = 1_764_400_000.0
SPOT, OTHER = ("day:4102444800", "key a tokens"), ("month:4102444800", "group g requests")


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> object:
    """What makes connections to one store of each kind."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        yield lambda: SqliteStore(folder / "usage.sqlite")
        return
    with (redis_server if request.param == "redis" else postgres_server)(folder) as server:
        yield server.store


@pytest.fixture
def stores(shared: object) -> Iterator[tuple[Store, Store]]:
    """Two processes' connections to it, empty of what the test uses."""
    two = shared(), shared()  # type: ignore[operator]
    yield two
    held = two[0].values([SPOT, OTHER])
    two[0].settle(uuid4().hex, 1, [], {address: -value for address, value in held.items()})
    for store in two:
        store.close()


def claim_of(store: Store, owner: str, wanted: Claim) -> Claimed:
    """One claim alone."""
    (found,) = store.claim(owner, [wanted])
    return found


def claim(id: str, tokens: float, limit: float = 100) -> Claim:
    return Claim(id, {SPOT: tokens, OTHER: 1}, {SPOT: limit, OTHER: 1000})


def test_a_claim_is_all_or_nothing_and_is_seen_by_others(stores: tuple[Store, Store]) -> None:
    one, two = stores
    one.tend("one", NOW)
    assert claim_of(one, "one", claim("a1", 60)).admitted
    refused = claim_of(two, "two", claim("a2", 50))
    assert not refused.admitted and refused.used == {SPOT: 60, OTHER: 1}
    assert two.values([SPOT, OTHER]) == {SPOT: 60, OTHER: 1}, "nothing of it was added"
    assert claim_of(two, "two", claim("a3", 40)).admitted, "up to the limit itself"
    one.settle("one", 1, ["a1"], {SPOT: 7})
    assert one.used([SPOT, OTHER]) == {SPOT: 7, OTHER: 0}, "the other's claim is open"
    two.settle("two", 1, ["a3"], {})
    assert one.values([SPOT, OTHER]) == {SPOT: 7, OTHER: 0}


def test_several_claims_at_once_are_each_judged_in_turn(stores: tuple[Store, Store]) -> None:
    one, two = stores
    found = one.claim("s", [claim(f"s{n}", amount) for n, amount in enumerate((50, 40))])
    assert [claimed.admitted for claimed in found] == [True, True]
    assert [claimed.used for claimed in found] == [{SPOT: 0, OTHER: 0}, {SPOT: 50, OTHER: 1}]
    found = two.claim("t", [claim(f"t{n}", amount) for n, amount in enumerate((20, 8, 5, 2))])
    assert [claimed.admitted for claimed in found] == [False, True, False, True]
    assert [claimed.used[SPOT] for claimed in found] == [90, 90, 98, 98]
    one.settle("s", 1, ["s0", "s1"], {})
    two.settle("t", 1, ["t0", "t1", "t2", "t3"], {})
    assert one.values([SPOT, OTHER]) == {SPOT: 0, OTHER: 0}


def test_a_call_that_is_repeated_counts_once(stores: tuple[Store, Store]) -> None:
    one, two = stores
    assert claim_of(one, "r", claim("b1", 60)).admitted
    for store in (one, two, one):  # an answer was lost; another connection says it again
        store.settle("r", 1, ["b1"], {SPOT: 10, OTHER: 1})
    one.settle("r", 2, [], {SPOT: 1})
    assert two.values([SPOT, OTHER]) == {SPOT: 11, OTHER: 1}


def test_claims_of_a_dead_process_are_taken_back_and_its_late_word_still_counts(
    stores: tuple[Store, Store],
) -> None:
    one, two = stores
    one.tend("dead", NOW)
    assert claim_of(one, "dead", claim("c1", 60)).admitted
    two.tend("alive", NOW + LOST_SECONDS - 1)
    assert two.values([SPOT])[SPOT] == 60, "it may be alive"
    two.tend("alive", NOW + LOST_SECONDS + 1)
    assert two.values([SPOT, OTHER]) == {SPOT: 0, OTHER: 0}
    one.settle("dead", 1, ["c1"], {SPOT: 25})
    assert two.values([SPOT])[SPOT] == 25


def test_what_has_expired_goes(stores: tuple[Store, Store]) -> None:
    one, two = stores
    old = f"minute:{int(NOW) - 10_000}"
    one.settle("e", 1, [], {(old, "x"): 1.0, ("holdout", "m n"): 2.0})
    two.tend("e", NOW)
    assert two.read([old, "holdout", "none"]) == {"holdout": {"m n": 2.0}}
    one.settle("e", 2, [], {("holdout", "m n"): -2.0})


class InTransactions(SqliteStore):
    """SQLite as PostgreSQL is used: many statements, each step in Python."""

    _claim_all = SqlStore._claim_all
    settle = SqlStore.settle


SPOTS = st.sampled_from([SPOT, OTHER, ("usage:1764399600", "a m saved"), ("holdout", "m n")])
AMOUNTS = st.dictionaries(SPOTS, st.integers(-3, 40) | st.floats(-3, 40), max_size=3)
CLAIMED = st.dictionaries(SPOTS, st.integers(0, 40), max_size=3)
STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(CLAIMED, st.dictionaries(SPOTS, st.integers(0, 90))), max_size=4),
        st.integers(1, 6),
        st.lists(st.integers(0, 12), max_size=3, unique=True),  # a claim ends once
        AMOUNTS,
    ),
    min_size=1,
    max_size=6,
)


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_one_statement_does_what_a_transaction_of_many_does(steps: list[Any]) -> None:
    one, many = SqliteStore(None), InTransactions(None)
    ids = count()
    for wanted, number, ended, used in steps:
        claims = [Claim(f"c{next(ids)}", amounts, limits) for amounts, limits in wanted]
        found, expected = (store.claim("o", claims) for store in (one, many))
        assert [claimed.admitted for claimed in found] == [c.admitted for c in expected]
        for ours, theirs in zip(found, expected, strict=True):
            assert dict(ours.used) == pytest.approx(dict(theirs.used))
        for store in (one, many):
            store.settle("o", number, [f"c{n}" for n in ended], used)
        for table in ("counters", "claims", "owners"):
            rows, same = (
                sorted(store._run(f"SELECT * FROM extracot_{table}")) for store in (one, many)
            )
            if table == "counters":  # each has added floats in its own order
                rows, same = ([(*r[:2], pytest.approx(r[2], abs=1e-9), r[3]) for r in rows], same)
            elif table == "claims":
                rows, same = ([(*r[:2], json.loads(r[2])) for r in t] for t in (rows, same))
            assert rows == same
    for store in (one, many):
        assert store._connection is not None
        store._connection.close()  # memory stays at a ``close``


def test_sqlite_keeps_large_counts_whole() -> None:
    store = SqliteStore(None)
    store.settle("o", 1, [], {SPOT: 999_999_999_999_990, OTHER: 0.1})
    found = claim_of(store, "o", Claim("x", {SPOT: 9}, {SPOT: 10**15}))
    assert found == Claimed(True, {SPOT: 999_999_999_999_990})
    assert not claim_of(store, "o", Claim("y", {SPOT: 2}, {SPOT: 10**15})).admitted
    assert store.values([SPOT, OTHER]) == {SPOT: 999_999_999_999_999, OTHER: 0.1}


def test_many_at_once_keep_to_the_limit(shared: object) -> None:
    admitted: list[int] = []

    def work(number: int) -> None:
        store: Store = shared()  # type: ignore[operator]
        for turn in range(25):
            found = claim_of(store, f"w{number}", claim(f"d{number}-{turn}", 1, limit=40))
            admitted.append(found.admitted)
        store.settle(f"w{number}", 1, [f"d{number}-{turn}" for turn in range(25)], {})
        store.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    # Those that had ended gave theirs back, so later ones got in: but never 41 at once.
    assert len(admitted) == 100 and sum(admitted) >= 40
    store: Store = shared()  # type: ignore[operator]
    assert store.values([SPOT, OTHER]) == {SPOT: 0, OTHER: 0}
    store.close()


# ------------------------------------------------------------------------------------ calendar


@given(st.floats(0, 4e9), st.sampled_from(Period))
def test_windows_hold_their_moment_and_follow_on_each_other(at: float, period: Period) -> None:
    found = window(period, at)
    assert found.start <= at < found.end
    assert window(period, found.end).start == found.end
    assert window(period, found.end - 1) == found


def test_midnight_and_the_ends_of_months_in_utc() -> None:
    def at(*when: int) -> float:
        return datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]

    before, after = at(2026, 12, 31, 23, 59, 59), at(2027, 1, 1)
    for period in Period:
        assert window(period, before).end == window(period, after).start == after
    assert window(Period.MONTH, at(2028, 2, 29, 12)).end == at(2028, 3, 1)
    assert window(Period.MONTH, at(2026, 2, 28, 23)).end == at(2026, 3, 1)


# ------------------------------------------------------------------------------ the ledger's thread


class Fragile(SqliteStore):
    """A store that can be lost: before a call is carried out, or after it and before its answer."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gone = False
        self.swallow = 0

    def _run(self, query: str, values: object = ()) -> list[tuple[object, ...]]:  # type: ignore[override]
        if self.gone:
            raise StoreError("usage store: gone")
        rows = super()._run(query, values)  # type: ignore[arg-type]
        if query.startswith(("COMMIT", "INSERT INTO extracot_settling")) and self.swallow:
            self.swallow -= 1
            raise StoreError("usage store: the answer was lost")
        return rows


@pytest.mark.anyio
async def test_what_is_used_while_the_store_is_lost_is_counted_once_when_it_is_back(
    tmp_path: Path,
) -> None:
    store = Fragile(tmp_path / "usage.sqlite")
    told: list[tuple[bool, int]] = []
    ledger = Ledger(store, lambda up, waiting: told.append((up, waiting)))
    ledger.start()
    assert (await ledger.claim(claim("x", 60))).admitted
    store.gone = True
    ledger.settle("x", {SPOT: 5, OTHER: 1})
    with pytest.raises(StoreError):
        await ledger.claim(claim("y", 1))
    for _ in range(9):
        ledger.settle(None, {SPOT: 5, OTHER: 1})
    await asyncio.to_thread(wait_for, lambda: told[-1][0] is False)
    store.swallow, store.gone = 2, False  # it is back, and loses two answers first
    await asyncio.to_thread(wait_for, lambda: told[-1] == (True, 0))
    assert await ledger.values([SPOT, OTHER]) == {SPOT: 50, OTHER: 10}
    await ledger.close()
    assert held_in(tmp_path / "usage.sqlite") == 50


class Counting(SqliteStore):
    """How many claims, and how many settlements of how many claims, it is asked for at a time."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path)
        self.claims: list[int] = []
        self.settled: list[int] = []

    def claim(self, owner: str, claims: Sequence[Claim]) -> list[Claimed]:
        self.claims.append(len(claims))
        return super().claim(owner, claims)

    def settle(self, owner: str, number: int, ids: Sequence[str], amounts: Amounts) -> None:
        self.settled.append(len(ids))
        super().settle(owner, number, ids, amounts)


@pytest.mark.anyio
async def test_what_one_turn_of_the_loop_asks_is_one_call_of_the_store() -> None:
    store = Counting()
    ledger = Ledger(store)
    ledger.start()
    ids = [ledger.claim_id() for _ in range(MOST_AT_ONCE + 40)]
    found = await asyncio.gather(*(ledger.claim(claim(one, 1, limit=1e6)) for one in ids))
    assert sorted(claimed.used[SPOT] for claimed in found) == list(range(len(ids)))
    assert store.claims == [MOST_AT_ONCE, 40]
    for one in ids:
        ledger.settle(one, {SPOT: 2})
    await asyncio.to_thread(wait_for, lambda: sum(store.settled) == len(ids))
    assert len(store.settled) <= 2, "it also looks by itself, now and then"
    assert await ledger.values([SPOT]) == {SPOT: 2 * len(ids)}
    await ledger.close()


@pytest.mark.anyio
async def test_claims_that_get_no_answer_end_and_later_ones_do_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("extracot_server.ledger.ledger.ANSWER_SECONDS", 0.05)
    stuck, store = threading.Event(), SqliteStore(None)
    ledger = Ledger(store)
    ledger.start()
    monkeypatch.setattr(store, "claim", lambda owner, claims: stuck.wait(60) and [])
    for name in ("x", "y"):  # the timer of the first has gone by then
        with pytest.raises(StoreError, match="no answer in time"):
            await ledger.claim(claim(name, 1))
    monkeypatch.undo()
    stuck.set()
    assert (await ledger.claim(claim("z", 1))).admitted
    await ledger.close()


def test_claims_of_two_processes_never_have_one_name() -> None:
    one, two = Ledger(SqliteStore(None)), Ledger(SqliteStore(None))
    assert len({ledger.claim_id() for ledger in (one, two) for _ in range(50)}) == 100


@pytest.mark.anyio
async def test_closing_writes_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "usage.sqlite"
    ledger = Ledger(SqliteStore(path))
    ledger.start()
    for _ in range(500):
        ledger.settle(None, {SPOT: 1})
    await ledger.close()
    assert held_in(path) == 500


def held_in(path: Path) -> float:
    """What a file has at one address, after its ledger has closed."""
    store = SqliteStore(path)
    found = store.values([SPOT])[SPOT]
    store.close()
    return found


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "no.sqlite").write_text("this is no database, and long enough to be read as one")
    for path in (tmp_path / "no.sqlite", tmp_path / "missing" / "usage.sqlite"):
        with pytest.raises(StoreError) as failed:
            Ledger(SqliteStore(path)).start()
        assert str(path) in str(failed.value) and "\n" not in str(failed.value)


@pytest.mark.anyio
@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small file system")
async def test_a_full_disk_under_the_store(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        told: list[tuple[bool, int]] = []
        ledger = Ledger(SqliteStore(disk / "u.sqlite"), lambda up, n: told.append((up, n)))
        ledger.start()
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as stream:
            while stream.write(b"x" * 4096):
                pass
        for number in range(500):
            ledger.settle(None, {("holdout", f"{number} {'x' * 200}"): 1, SPOT: 1})
        await asyncio.to_thread(wait_for, lambda: bool(told) and told[-1][0] is False)
        filler.unlink()
        await asyncio.to_thread(wait_for, lambda: told[-1] == (True, 0))
        assert (await ledger.values([SPOT]))[SPOT] == 500
        await ledger.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
