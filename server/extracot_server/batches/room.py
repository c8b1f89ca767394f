"""How many bytes each key keeps in the folder of batches, and how many more it may.

Everything counts: files, uploads, results that are being written, and the records of files and
batches. The disk is asked, though not again within a moment; what this process writes meanwhile is
added at once. Blocking.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from extracot_server.config.batch_settings import BatchSettings

OTHERS_AGE = 5.0
"""Seconds for which a measure of other keys is good enough."""
EVERYBODY, OF_KEY = "everybody", "key-"
"""Names of the folders of keys: where none is required, and the beginning of all others."""
_PARTS = ("files", "batches")


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that are left to a key (below 1: none), and what takes the rest of which limit."""

    left: int
    whose: str
    most: int
    setting: str

    def taken(self) -> str:
        """That there is none, as the end of a sentence."""
        return f"{self.whose} take all of the {self.most} bytes that `{self.setting}` allows"


@dataclass(slots=True)
class Usage:
    """Bytes of the keys' folders. A wrong guess lasts no longer than the measure may be old."""

    root: Path
    settings: BatchSettings
    _measured: dict[Path, tuple[float, int]] = field(default_factory=dict)
    _others: dict[Path, tuple[float, int]] = field(default_factory=dict)

    def of(self, folder: Path, age: float = 0.0) -> int:
        """Bytes of a key's folder, measured within the last ``age`` seconds."""
        found, now = self._measured.get(folder), monotonic()
        if found is None or now - found[0] >= age:
            found = self._measured[folder] = (now, _bytes_in(folder))
        return found[1]

    def of_others(self, folder: Path, age: float = OTHERS_AGE) -> int:
        """Bytes of all keys but this one, measured within the last ``age`` seconds."""
        found, now = self._others.get(folder), monotonic()
        if found is None or now - found[0] >= age:
            known = (self.of(one, age) for one in key_folders(self.root) if one != folder)
            found = self._others[folder] = (now, sum(known))
        return found[1]

    def add(self, folder: Path, size: int) -> None:
        """So many bytes were written there."""
        if (found := self._measured.get(folder)) is not None:
            self._measured[folder] = (found[0], found[1] + size)

    def forget(self, folder: Path) -> None:
        """Measure it the next time: something came or went."""
        self._measured.pop(folder, None)
        self._others.clear()

    def measure_anew(self) -> None:
        """Measure all keys the next time."""
        self._measured.clear()
        self._others.clear()

    def room(self, folder: Path, age: float = 0.0) -> Room:
        """What is left to the key of ``folder``, by a measure of at most ``age`` seconds.

        With infinity the disk is not asked, once it was.
        """
        own = self.of(folder, age)
        key, whole = self.settings.batch_key_bytes, self.settings.batch_folder_bytes
        left, left_of_all = key - own, whole - own - self.of_others(folder, max(age, OTHERS_AGE))
        if left <= left_of_all:
            return Room(left, "this key's files and batches", key, "batch_key_bytes")
        return Room(left_of_all, "the files and batches of all keys", whole, "batch_folder_bytes")


def key_folders(root: Path) -> list[Path]:
    """The folders of all keys that have one."""
    if not root.is_dir():
        return []
    return [
        path
        for path in root.iterdir()
        if (path.name == EVERYBODY or path.name.startswith(OF_KEY)) and path.is_dir()
    ]


def _bytes_in(folder: Path) -> int:
    return sum(size for part in _PARTS for size in _sizes(folder / part))


def _sizes(folder: Path) -> Iterator[int]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    yield entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:  # it has gone meanwhile
                    continue
    except FileNotFoundError:
        return
