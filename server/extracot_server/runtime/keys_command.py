"""``extracot-serve keys``: lists, creates, revokes and rotates the keys of a keys file.

A secret is printed once, on standard output, and kept nowhere. Each change is a line in the file's
audit log. A running server is told by SIGHUP. Knows no server.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import getpass
import json
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from extracot.files import write_atomic
from extracot_server.admission.key_editing import created, new_secret, revoked, rotated
from extracot_server.admission.keys import KeysError, Principal, parse_keys
from extracot_server.config.setting_values import check_key_file, read_text


def run(arguments: Sequence[str]) -> int:
    """0 when it is done, 1 when the file does not allow it; argparse ends on wrong arguments."""
    given = _parser().parse_args(arguments)
    if given.file is None:
        return _fail("name the keys file: --file FILE, or EXTRACOT_KEYS")
    try:
        check_key_file(given.file)
    except ValueError as error:
        return _fail(f"the keys file {error}")
    path = Path(given.file).resolve()  # a link stays one
    try:
        if given.action == "list":
            _list(path)
        else:
            _change(path, given)
    except (KeysError, ValueError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"keys file {path}: {error.strerror or error}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="extracot-serve keys",
        description="Lists and changes the keys of a keys file. New keys are kept as SHA-256; "
        "comments stay. A running server reads the file again on SIGHUP.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, text in (
        ("list", "show who has a key, and its quotas"),
        ("create", "add a key and print its secret, once"),
        ("revoke", "remove a key"),
        ("rotate", "give a key another secret and print it, once"),
    ):
        added = actions.add_parser(action, help=text, description=text)
        added.add_argument(
            "--file", default=os.environ.get("EXTRACOT_KEYS") or None, help="the keys file"
        )
        if action != "list":
            added.add_argument("name", help="the key's name")
        if action == "create":
            added.add_argument("--group", help="the group whose quotas it shares")
            added.add_argument("--admin", action="store_true", help="it may see all usage")
    return parser


def _change(path: Path, given: argparse.Namespace) -> None:
    with _locked(path):
        exists = path.exists()
        text = read_text(path, "keys file") if exists or given.action != "create" else ""
        secret = new_secret()
        match given.action:
            case "create":
                text = created(text, path, given.name, secret, group=given.group, admin=given.admin)
            case "rotate":
                text = rotated(text, path, given.name, secret)
            case _:
                text, secret = revoked(text, path, given.name), ""
        mode = path.stat().st_mode & 0o777 if exists else 0o600
        write_atomic(path, text, mode=mode)
        if secret:
            print(secret, flush=True)  # it can be told now only, whatever fails behind this
        _audit(path, given.action, given.name)
    print(f"{given.action}d {given.name}; SIGHUP the server to use it", file=sys.stderr)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One change at a time: two at once would lose one of them."""
    with _log_of(path).open("a") as stream:
        os.chmod(stream.fileno(), 0o600)
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.audit.jsonl")


def _audit(path: Path, action: str, name: str) -> None:
    """Who changed what and when; no secret, and no digest of one. Raises :class:`KeysError` if it
    cannot be written."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    line = {"time": when, "user": _user(), "action": action, "key": name}
    try:
        with _log_of(path).open("a") as stream:
            stream.write(json.dumps(line) + "\n")
    except OSError as error:
        raise KeysError(
            f"{action}d {name}, which {_log_of(path)} does not say: {error.strerror or error}; "
            "SIGHUP the server to use it"
        ) from error


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())


def _list(path: Path) -> None:
    rows = [("NAME", "MODELS", "ADMIN", "QUOTAS")]
    rows += [_row(found) for _, found in parse_keys(read_text(path, "keys file"), path)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())


def _row(found: Principal) -> tuple[str, str, str, str]:
    quotas = [
        f"{q.limit:,} {q.kind} a {q.period} ({q.owner}"
        + (")" if q.budget is None else f", then budget {q.budget})")
        for q in found.quotas
    ]
    models = "all" if found.models is None else ", ".join(sorted(found.models))
    return found.name, models, "yes" if found.admin else "", "; ".join(quotas) or "none"


def _fail(message: str) -> int:
    print(f"extracot-serve keys: error: {message}", file=sys.stderr, flush=True)
    return 1
