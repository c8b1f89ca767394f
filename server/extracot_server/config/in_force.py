"""What files said when they were last taken, for workers that start after one of them was broken.

A file that SIGHUP refuses changes nothing; a worker that is restarted then must go on with what its
siblings have, not end with the mistake. The texts lie in a file without a name that all forks of
one parent share, since they may hold keys. Without :func:`share` nothing is kept: a server that
starts on a broken file must say so.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_shared: int | None = None  # its descriptor


def share() -> None:
    """From now on keep texts for forks of this process, where the system has room for that."""
    global _shared
    with contextlib.suppress(OSError):
        _shared = _nameless()


def keep(path: Path, text: str, *, first: bool = False) -> None:
    """``path`` said this, and it is in force; with ``first``, unless something was before. Never
    fails: what is lost is what a later worker could have gone on with."""
    if _shared is None:
        return
    with contextlib.suppress(OSError), _locked(_shared) as texts:
        if texts.get(str(path)) != text and not (first and str(path) in texts):
            content = json.dumps({**texts, str(path): text}).encode()
            os.truncate(_shared, 0)
            os.pwrite(_shared, content, 0)


def text_of(path: Path) -> str | None:
    """What it said when it was last taken; ``None`` if it never was."""
    if _shared is None:
        return None
    try:
        with _locked(_shared) as texts:
            return texts.get(str(path))
    except OSError:
        return None


def _nameless() -> int:
    """A file without a name: in memory, where the system can do that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("extracot")
    descriptor, name = tempfile.mkstemp()
    os.unlink(name)
    return descriptor


@contextlib.contextmanager
def _locked(shared: int) -> Iterator[dict[str, str]]:
    # A lock of the process: the file's offset is that of all forks, so it is never moved.
    fcntl.lockf(shared, fcntl.LOCK_EX)
    try:
        content = os.pread(shared, os.fstat(shared).st_size, 0)
        try:
            texts = json.loads(content)
        except ValueError:  # nothing yet, or whoever wrote it was killed
            texts = {}
        yield texts
    finally:
        fcntl.lockf(shared, fcntl.LOCK_UN)
