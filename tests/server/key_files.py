"""What tests of API keys share: keys, a file of them, the header that carries one."""

from __future__ import annotations

from pathlib import Path

import yaml

from extracot_server.admission.keys import Principal, keys_text, parse_keys
from tests.server.live import user

SECRET, OTHER = "sk-aaaaaaaaaaaaaaaa", "sk-bbbbbbbbbbbbbbbb"
CHAT = {"messages": user()}


def write(path: Path, *entries: object, **more: object) -> Path:
    """A keys file with these entries."""
    path.write_text(yaml.safe_dump({"keys": list(entries), **more}))
    return path


def read_keys(path: Path) -> list[tuple[bytes, Principal]]:
    """What a keys file says: digests and principals."""
    return parse_keys(keys_text(path), path)


def bearer(key: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"authorization": f"Bearer {key}"}
