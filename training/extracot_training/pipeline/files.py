"""Writing a file so that a crash leaves the old one or the new one, and hashing a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from extracot import files


def write_atomic(path: Path, data: str | bytes) -> None:
    """:func:`extracot.files.write_atomic`, in a folder that is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, data)


def sha256_of(path: Path) -> str:
    """``sha256:<hex>`` of a file's bytes, or of a folder's files (names and bytes, sorted)."""
    if not path.is_dir():
        return f"sha256:{files.sha256_hex(path)}"
    digest = hashlib.sha256()
    for child in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{child.relative_to(path)}\0{sha256_of(child)}\n".encode())
    return f"sha256:{digest.hexdigest()}"
