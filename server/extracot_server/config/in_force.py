"""What files said when they were last taken, for workers that start after one of them was broken.

A file that SIGHUP refuses changes nothing; a worker that is restarted then must go on with what its
siblings have, not end with the mistake. The texts lie in a file without a name that all forks of
one parent share, since they may hold keys. Without :func:`share` nothing is kept: a server that
starts on a broken file must say so.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_shared: int | None = None  # its descriptor


def share() -> None:
    """From now on keep texts for forks of this process."""
    global _shared
    _shared, name = tempfile.mkstemp()
    os.unlink(name)


def keep(path: Path, text: str) -> None:
    """``path`` said this, and it is in force."""
    if _shared is None:
        return
    with _locked(_shared) as texts:
        if texts.get(str(path)) == text:
            return
        content = json.dumps({**texts, str(path): text}).encode()
        os.pwrite(_shared, content, 0)
        os.truncate(_shared, len(content))


def text_of(path: Path) -> str | None:
    """What it said when it was last taken; ``None`` if it never was."""
    if _shared is None:
        return None
    with _locked(_shared) as texts:
        return texts.get(str(path))


@contextmanager
def _locked(shared: int) -> Iterator[dict[str, str]]:
    # A lock of the process: the file's offset is that of all forks, so it is never moved.
    fcntl.lockf(shared, fcntl.LOCK_EX)
    try:
        content = os.pread(shared, os.fstat(shared).st_size, 0)
        yield json.loads(content) if content else {}
    finally:
        fcntl.lockf(shared, fcntl.LOCK_UN)
