"""From the setting ``usage_store`` to a ledger that has reached its store."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from urllib.parse import urlsplit

from extracot_server.config.setting_values import PATH_STARTS
from extracot_server.config.settings import Settings, SettingsError
from extracot_server.ledger.ledger import Ledger
from extracot_server.ledger.sqlite import SqliteStore, keep_private
from extracot_server.ledger.store import Store, StoreError

log = logging.getLogger("extracot.server")


def open_ledger(settings: Settings, *, lasting: bool) -> Ledger | None:
    """The ledger that the settings name, or the default; ``None`` where it is off.

    ``lasting``: there is something worth keeping, so the default is a file. Raises
    :class:`SettingsError` in one line for a store that was named and cannot be used.
    """
    named = settings.usage_store.get_secret_value()
    if named == "off":
        return None
    if named not in ("", "memory"):
        return _started(_store(named))
    if named == "" and lasting and settings.port:
        path = _state_folder() / f"usage-{settings.port}.sqlite"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return _started(_file(path))
        except (OSError, SettingsError) as error:
            log.warning("usage is kept in memory and lost at a restart: %s", error)
    return _started(SqliteStore(None), shared=False)


def _started(store: Store, *, shared: bool = True) -> Ledger:
    ledger = Ledger(store, shared=shared)
    try:
        ledger.start()
    except StoreError as error:
        raise SettingsError(f"setting usage_store: {error}") from None
    return ledger


def _store(named: str) -> Store:
    scheme, colon, _ = named.partition("://")
    if not colon or named.startswith(PATH_STARTS):
        return _file(Path(named).expanduser())
    parts = urlsplit(named)
    try:
        shown = f"{scheme}://{parts.hostname}:{parts.port or 'default'}{parts.path}"
    except ValueError:  # the error quotes what is no port: it may be the password
        raise SettingsError("setting usage_store: the URL's host or port is wrong") from None
    try:
        if scheme.startswith("redis"):
            from extracot_server.ledger.redis import RedisStore

            return RedisStore(named, shown)
        from extracot_server.ledger.postgres import PostgresStore

        _check_conninfo(named, shown)
        return PostgresStore(named, shown)
    except ImportError as error:
        raise SettingsError(
            f"setting usage_store: {error}; install it with: pip install 'extracot[stores]'"
        ) from None
    except StoreError as error:
        raise SettingsError(f"setting usage_store: {error}") from None


def _file(path: Path) -> SqliteStore:
    keep_private(path)
    return SqliteStore(path)


def _check_conninfo(url: str, shown: str) -> None:
    """Whether libpq can read a URL: its own errors quote it, password and all."""
    from psycopg import Error
    from psycopg.conninfo import conninfo_to_dict

    try:
        conninfo_to_dict(url)
    except Error:
        raise SettingsError(
            f"setting usage_store: usage store {shown}: a part of its URL is wrong: a parameter is "
            "unknown, or a sign is not %-encoded"
        ) from None


def _state_folder() -> Path:
    """Where a user's programs keep what should last, by the XDG rules."""
    given = os.environ.get("XDG_STATE_HOME", "")
    return (Path(given) if given.startswith("/") else Path.home() / ".local/state") / "extracot"
