"""States of frozen layers on the disk: one memory-mapped file, a place for each distinct row.

The file's room is taken when it is made, so that a full disk is an error then and not a crash
later. What is in it counts from the last :meth:`StateCache.flush` on: a run that is killed computes
the rest again. Knows rows and numbers, no model.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from extracot_training.errors import ConfigError
from extracot_training.pipeline.files import write_atomic

BYTES = 2  # of a number in bfloat16


class StateCache:
    """Room in ``folder`` for the states of as many of ``rows`` (token ids) as ``limit`` bytes hold.

    ``key`` names everything else that decides the states; a file of other rows or another key is
    left alone. Raises :class:`ConfigError` where the disk has no room.
    """

    def __init__(
        self, folder: Path, rows: Iterable[Sequence[int]], *, width: int, limit: float, key: str
    ) -> None:
        self._width = width
        self._places: dict[bytes, tuple[int, int, int]] = {}
        self.distinct = end = 0
        seen = hashlib.sha256(f"{key} {width}".encode())
        known: set[bytes] = set()
        for row in rows:
            name = _name(np.asarray(row, dtype=np.int64))
            if name in known:
                continue
            known.add(name)
            size = len(row) * width
            if (end + size) * BYTES <= limit:
                self._places[name] = (len(self._places), end, len(row))
                end += size
                seen.update(name)
        self.distinct = len(known)
        self.bytes = end * BYTES
        stem = folder / f"states-{seen.hexdigest()[:16]}"
        self._flags_file = stem.with_suffix(".rows")
        data = stem.with_suffix(".bfloat16")
        whole = data.is_file() and data.stat().st_size == self.bytes
        self._have = self._flags() if whole else np.zeros(len(self._places), dtype=np.bool_)
        if end:
            self._data = _mapped(data, end)

    @property
    def rows(self) -> int:
        """How many distinct rows it has room for."""
        return len(self._places)

    @property
    def known(self) -> int:
        """How many of them it has."""
        return int(self._have.sum())

    def read(self, ids: Tensor) -> Tensor | None:
        """The states of a row, (length, width) in bfloat16, if they are there."""
        place = self._places.get(_name(ids.cpu().numpy()))
        if place is None or not self._have[place[0]]:
            return None
        return self._at(place)

    def write(self, ids: Tensor, states: Tensor) -> None:
        """Keep the states of a row if there is room for it."""
        place = self._places.get(_name(ids.cpu().numpy()))
        if place is not None:
            self._at(place).copy_(states)
            self._have[place[0]] = True

    def flush(self) -> None:
        """What was written so far is there for the next run, too."""
        if self._places:
            self._data.flush()
            write_atomic(self._flags_file, np.packbits(self._have).tobytes())

    def _at(self, place: tuple[int, int, int]) -> Tensor:
        _, begin, length = place
        part = self._data[begin : begin + length * self._width]
        return torch.from_numpy(part).view(torch.bfloat16).view(length, self._width)

    def _flags(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        none = np.zeros(len(self._places), dtype=np.bool_)
        if not self._flags_file.is_file():
            return none
        packed = np.frombuffer(self._flags_file.read_bytes(), dtype=np.uint8)
        found = np.unpackbits(packed)[: len(none)].astype(np.bool_)
        return found if len(found) == len(none) else none


def key_of(values: Iterable[Tensor], *further: object) -> str:
    """A name for frozen weights, and whatever ``further`` says, by their bytes."""
    told = hashlib.sha256(repr(further).encode())
    for one in values:
        told.update(one.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return told.hexdigest()


def _name(ids: np.ndarray[tuple[int], np.dtype[np.int64]]) -> bytes:
    return hashlib.sha256(ids.tobytes()).digest()


def _mapped(path: Path, count: int) -> np.memmap[tuple[int], np.dtype[np.int16]]:
    """A file of so many numbers, its room taken. int16 stands for bfloat16, which numpy lacks."""
    size = count * BYTES
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("ab") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigError(
            f"setting 'cache_states': no room for {size / 2**30:.1f} GiB in {path.parent} "
            f"({error.strerror}); lower cache_states.gigabytes, or name another folder",
            key="cache_states",
        ) from error
    return np.memmap(path, dtype=np.int16, mode="r+", shape=(count,))
