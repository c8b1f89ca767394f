"""Folders and files that only this user may read."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger("extracot.batches")
_OTHERS = 0o077


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone; ``OSError``.

    One that is there stays as it is.
    """
    if folder.is_dir():
        return
    if not folder.parent.is_dir():
        make_private(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def tighten(path: Path) -> bool:
    """Take others' rights to a file or folder away; whether they have none now.

    What another user owns is left alone, and so is what cannot be changed.
    """
    found = path.stat()
    if not found.st_mode & _OTHERS:
        return True
    if found.st_uid != os.geteuid():
        return False
    try:
        os.chmod(path, stat.S_IMODE(found.st_mode) & ~_OTHERS)
    except OSError:
        return False
    return not path.stat().st_mode & _OTHERS  # some file systems have one mode for everything


def open_private(path: Path) -> BinaryIO:
    """A file to write that only this user may read."""
    return open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")


def warn_of_readers(folder: Path) -> None:
    """One line where others may open a folder."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & _OTHERS:
        what = "chmod 700 it, or give batches a folder of their own"
        log.warning("batch_folder: other users may open %s (mode %o): %s", folder, mode, what)
