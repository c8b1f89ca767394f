"""Usage and quotas where something is wrong: a full Redis, a PostgreSQL that only reads, midnight.

Elsewhere: a full disk under SQLite and stores that are gone (`test_ledger.py`, `test_quotas.py`),
front ends and stores that are killed under load (`test_shared_usage.py`).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import redis

from extracot.errors import ExtracotError
from extracot_server.config.settings import Settings, SettingsError, load_settings
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine
from extracot_server.ledger.ledger import Ledger
from extracot_server.ledger.open import open_ledger
from extracot_server.ledger.sqlite import SqliteStore
from extracot_server.ledger.store import LOST_SECONDS, Claim, StoreError
from tests.server.key_files import bearer, write
from tests.server.live import serve, user, wait_for
from tests.server.usage_stores import StoreServer, postgres_server, redis_server

SPOT = ("day:4102444800", "key a tokens")
YEARS_END = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


@contextmanager
def full_redis(folder: Path) -> Iterator[tuple[StoreServer, Callable[[bool], object]]]:
    """One whose memory can be used up: it reads, and takes no word that would need more."""
    with redis_server(folder) as server, redis.Redis.from_url(server.url) as admin:
        yield server, lambda full: admin.config_set("maxmemory", 1 if full else 0)


@contextmanager
def read_only_postgres(folder: Path) -> Iterator[tuple[StoreServer, Callable[[bool], object]]]:
    """One that can be told to only read, as one does that recovers or whose disk is full."""
    with postgres_server(folder) as server, psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")

        def tell(full: bool) -> None:
            admin.execute(f"ALTER SYSTEM SET default_transaction_read_only = {full}")
            admin.execute("SELECT pg_reload_conf()")

        yield server, tell


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [full_redis, read_only_postgres], ids=["redis", "postgresql"])
async def test_a_store_that_takes_no_more_is_a_lost_one_and_counts_once_later(
    kind: Callable[[Path], object], tmp_path: Path
) -> None:
    with kind(tmp_path) as (server, tell):  # type: ignore[attr-defined]
        told: list[tuple[bool, int]] = []
        ledger = Ledger(server.store(), lambda up, waiting: told.append((up, waiting)))
        ledger.start()
        claim = Claim("x", {SPOT: 60}, {SPOT: 100})
        assert (await ledger.claim(claim)).admitted
        tell(True)
        ledger.settle("x", {SPOT: 5})
        await asyncio.to_thread(wait_for, lambda: bool(told) and told[-1][0] is False)
        with pytest.raises(StoreError):
            await ledger.claim(Claim("y", {SPOT: 1}, {SPOT: 100}))
        for _ in range(20):
            ledger.settle(None, {SPOT: 1})
        tell(False)
        await asyncio.to_thread(wait_for, lambda: told[-1] == (True, 0))
        assert await ledger.values([SPOT]) == {SPOT: 25}
        await ledger.close()


def test_a_month_s_end_and_a_reply_that_goes_over_it(tmp_path: Path) -> None:
    """What came in before midnight counts for the old day, month and year, whenever it ends."""
    quota = [{"tokens": 1000, "per": "month"}, {"requests": 2, "per": "day"}]
    keys = write(tmp_path / "keys.yaml", {"name": "a", "key": "sk-a", "quotas": quota})
    body = {"messages": user(), "max_tokens": 400, "ignore_eos": True}
    with serve(ScriptedBehaviour(), keys=keys, usage_store=str(tmp_path / "usage.sqlite")) as live:
        meter = live.app.state.extracot.meter
        live.http.headers.update(bearer("sk-a"))
        meter.clock = lambda: YEARS_END
        with live.http.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as old:
            assert old.headers["x-ratelimit-reset-tokens"] == "1s"
            meter.clock = lambda: YEARS_END + 2
            assert "[DONE]" in old.read().decode()
        first = live.http.post("/v1/chat/completions", json=body)
        assert first.headers["x-ratelimit-remaining-requests"] == "1", "a new day"
        left = int(first.headers["x-ratelimit-remaining-tokens"])
        assert left == 1000 - 400 - first.json()["usage"]["prompt_tokens"], "and a new month"
        refused = live.http.post("/v1/chat/completions", json=body | {"max_tokens": 999})
        assert refused.status_code == 429 and "until 2027-02-01T00:00:00Z" in refused.text
        meter.clock = lambda: YEARS_END
        again = live.http.post("/v1/chat/completions", json=body | {"max_tokens": 700})
        assert again.status_code == 429, "a clock that is set back finds the old month"
        query = {"start": "2026-12-01", "end": "2027-02-01"}
        rows = live.http.get("/v1/usage", params=query).json()["data"]
        assert [(row["start"][:10], row["requests"]) for row in rows] == [
            ("2026-12-31", 1),
            ("2027-01-01", 1),
        ]


@pytest.mark.parametrize(
    "store",
    [
        "redis://127.0.0.1:1/0?ssl_cert_reqs=none",
        "redis://127.0.0.1:1/0?nonsense=1",
        "redis://127.0.0.1:1/0?socket_timeout=abc",
        "redis://127.0.0.1:port/0",
        "postgresql://127.0.0.1:port/x",
        "postgresql://127.0.0.1:1/x?nonsense=1",
    ],
)
def test_a_store_s_address_that_is_wrong_is_one_line(store: str) -> None:
    with pytest.raises(SettingsError, match=r"^setting usage_store: .+"):
        open_ledger(load_settings(["--engine", "scripted", "--usage-store", store]), lasting=True)


def test_a_wrong_store_or_file_of_upstreams_is_told_before_an_engine_starts(tmp_path: Path) -> None:
    class Engine(ScriptedEngine):
        started = False

        async def start(self) -> None:
            self.started = True
            await super().start()

    missing = tmp_path / "none.yaml"
    for settings, words in (
        ({"usage_store": "postgresql://u:pw@127.0.0.1:1/db"}, "usage_store"),
        ({"upstreams": missing}, "none.yaml"),
    ):
        engine = Engine()
        with pytest.raises(ExtracotError, match=words), serve(on=engine, **settings):
            pass
        assert not engine.started


def modes(path: Path) -> dict[str, int]:
    """The modes of a store's files, by the ends of their names."""
    return {file.name.removeprefix(path.name): file.stat().st_mode & 0o777 for file in around(path)}


def around(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}*"))


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.anyio
@pytest.mark.usefixtures("usual_umask")
async def test_a_usage_file_is_for_the_server_s_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    named = tmp_path / "named.sqlite"
    default = tmp_path / "extracot/usage-8125.sqlite"
    for path, settings in (
        (named, Settings(engine="scripted", usage_store=str(named))),
        (default, Settings(engine="scripted", port=8125)),
    ):
        ledger = open_ledger(settings, lasting=True)
        assert ledger is not None
        ledger.settle(None, {SPOT: 1})
        assert await ledger.values([SPOT]) == {SPOT: 1}
        assert modes(path) == {"": 0o600, "-shm": 0o600, "-wal": 0o600}
        await ledger.close()
    assert default.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.anyio
@pytest.mark.usefixtures("usual_umask")
@pytest.mark.parametrize(("mode", "then"), [(0o644, 0o600), (0o640, 0o600), (0o664, 0o664)])
async def test_an_open_usage_file_is_closed_or_told_of(
    mode: int, then: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "usage.sqlite"
    path.touch()
    older = SqliteStore(path)
    older.settle("o", 1, [], {SPOT: 3})  # another process has it open
    for file in around(path):
        file.chmod(mode)
    settings = Settings(engine="scripted", usage_store=str(path))
    ledger = open_ledger(settings, lasting=True)
    assert ledger is not None
    assert await ledger.values([SPOT]) == {SPOT: 3}
    assert modes(path) == dict.fromkeys(("", "-shm", "-wal"), then)
    told = [record.getMessage() for record in caplog.records]
    if then == 0o600:
        assert told == []
    else:
        (line,) = told
        assert str(path) in line and "664" in line and "chmod 600" in line
    await ledger.close()
    older.close()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [redis_server, postgres_server], ids=["redis", "postgresql"])
async def test_who_is_alive_is_told_by_the_store_s_clock(
    kind: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose own clock is an hour ahead takes nobody's claims back."""
    with kind(tmp_path) as server:  # type: ignore[attr-defined]
        one = Ledger(server.store())
        one.start()
        assert (await one.claim(Claim("x", {SPOT: 60}, {SPOT: 100}))).admitted
        ahead = time.time() + 60 * LOST_SECONDS
        monkeypatch.setattr(time, "time", lambda: ahead)
        monkeypatch.setattr("extracot_server.ledger.sqlite.time", lambda: ahead)
        late = server.store()
        late.tend("late", late.now())
        assert await one.values([SPOT]) == {SPOT: 60}
        assert late.now() < ahead - LOST_SECONDS
        late.close()
        await one.close()


def test_a_ledger_goes_by_its_store_s_clock(tmp_path: Path) -> None:
    class Elsewhere(SqliteStore):
        def now(self) -> float:
            return 4_000_000_000.0

    ledger = Ledger(Elsewhere(tmp_path / "usage.sqlite"))
    ledger.start()
    asyncio.run(ledger.close())
    store = SqliteStore(tmp_path / "usage.sqlite")
    assert {row[0] for row in store._run("SELECT seen FROM extracot_owners")} == {4e9}
    store.close()


def test_a_new_file_that_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    """As of two front ends that start at once: SQLite refuses to wait for this lock."""
    path = tmp_path / "usage.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE theirs (x)")
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.2, other.execute, ["COMMIT"])
    release.start()
    store = SqliteStore(path)
    assert store.values([SPOT]) == {SPOT: 0}
    release.join()
    store.close()
    other.execute("INSERT INTO theirs VALUES (1)")
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()
