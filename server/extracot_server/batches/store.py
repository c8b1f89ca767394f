"""The folder of files and batches: ``FOLDER/key-NAME/{files,batches,active}`` for each API key.

What a key may see is what lies in its folder, so another key's is not found at all. Several
processes may use one folder: a record appears by rename, and cancelling is a file of its own, as is
that a batch has not ended (in ``active``), so that nobody reads all records to find those few.
Blocking: event loops call it in threads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import time
from typing import TypeVar

from extracot_server.batches.entries import (
    leave_trace,
    names_in,
    records_in,
    size_of,
    traced,
)
from extracot_server.batches.private import make_private, open_private, tighten, warn_of_readers
from extracot_server.batches.records import (
    BATCH_ID,
    FILE_ID,
    FileNotFoundInStoreError,
    Purpose,
    Record,
    StorageError,
    StorageLimitError,
    StoredBatch,
    StoredFile,
    new_file_id,
)
from extracot_server.batches.room import EVERYBODY, OF_KEY, Room, Usage, key_folders
from extracot_server.batches.uploads import Upload
from extracot_server.config.batch_settings import BatchSettings
from extracot_server.errors import InvalidRequestError

R = TypeVar("R", bound=Record)
UPLOADING = ".upload"
_FULL = "storage_limit_exceeded"
CANCEL = ".cancel"
_LOCK, _PROBE = "runner.lock", ".probe-"
Clock = Callable[[], float]


class KeyFolder:
    """The files and batches of one API key."""

    def __init__(self, store: BatchStore, path: Path) -> None:
        self._store = store
        self.path = path
        self.files = path / "files"
        self.batches = path / "batches"
        self.active = path / "active"

    def begin_upload(self) -> Upload:
        """Take in a file, within what the key and all together may keep."""
        self._check_files("file", "is one too many: this key")
        room = self.make_room()
        if room.left <= 0:
            raise StorageLimitError.of("file", f"has no room: {room.taken()}; delete some.", _FULL)
        file_id = new_file_id()
        path = self.files / f"{file_id}{UPLOADING}"
        try:
            self._make()
            stream = open_private(path)
        except OSError as error:
            raise StorageError(error) from None
        limit = self._store.settings.batch_max_file_bytes
        if room.left < limit:
            return Upload(file_id, path, stream, room.left, room)
        return Upload(file_id, path, stream, limit)

    def finish(self, upload: Upload, filename: str, keep_seconds: int | None) -> StoredFile:
        """Store a whole upload: it is there after a crash, too."""
        try:
            upload.stream.flush()
            os.fsync(upload.stream.fileno())
            upload.stream.close()
            return self.adopt(upload.path, upload.id, filename, "batch", keep_seconds)
        except OSError as error:
            with contextlib.suppress(OSError):  # no record, so nobody else would delete it
                self.data_path(upload.id).unlink(missing_ok=True)
            raise StorageError(error) from None

    def adopt(
        self, path: Path, file_id: str, filename: str, purpose: Purpose, keep_seconds: int | None
    ) -> StoredFile:
        """Make what lies at ``path`` a file. Idempotent, so that a crash in between is mended."""
        now = int(self._store.clock())
        keep = self._store.keep_seconds if keep_seconds is None else keep_seconds
        data = self.data_path(file_id)
        if path.exists():
            os.replace(path, data)
        found = StoredFile(
            id=file_id,
            created_at=now,
            expires_at=now + keep,
            bytes=data.stat().st_size,
            filename=filename,
            purpose=purpose,
        )
        found.save(self.files)
        self._store.usage.forget(self.path)
        return found

    def data_path(self, file_id: str) -> Path:
        """Where a file's bytes are."""
        return self.files / f"{file_id}.jsonl"

    def file(self, file_id: str, param: str | None = "file_id") -> StoredFile:
        """One file; :class:`FileNotFoundInStoreError` if it is not this key's."""
        found = None
        if FILE_ID.fullmatch(file_id):
            found = self._store.alive(StoredFile.load(self.files / f"{file_id}.json"))
        if found is None:
            raise _not_found("file", file_id, param)
        return found

    def batch(self, batch_id: str) -> StoredBatch:
        """One batch; :class:`FileNotFoundInStoreError` if it is not this key's."""
        found = None
        if BATCH_ID.fullmatch(batch_id):
            found = self._store.alive(StoredBatch.load(self.batches / f"{batch_id}.json"))
        if found is None:
            raise _not_found("batch", batch_id, "batch_id")
        return self._as_asked(found)

    def made_at(self, kind: type[Record], record_id: str) -> int | None:
        """When a file or batch of this key was made: one that is here, or was within the hour."""
        of_files = kind is StoredFile
        folder, pattern = (self.files, FILE_ID) if of_files else (self.batches, BATCH_ID)
        if not pattern.fullmatch(record_id):
            return None
        path = folder / f"{record_id}.json"
        found = kind.load(path)
        return traced(path) if found is None else found.created_at

    def list_files(self) -> list[StoredFile]:
        """All files, the newest first."""
        return self._store.listed(self.files, StoredFile)

    def list_batches(self) -> list[StoredBatch]:
        """All batches, the newest first."""
        return [self._as_asked(b) for b in self._store.listed(self.batches, StoredBatch)]

    def delete_file(self, file_id: str) -> None:
        """Delete a file, unless a batch that has not ended needs it."""
        found = self.file(file_id)
        for batch in self.unfinished():
            if batch.input_file_id == found.id:
                raise InvalidRequestError(
                    f"The batch `{batch.id}` still needs this file: cancel it first.",
                    param="file_id",
                    code="file_in_use",
                )
        self._store.remove(self.files / f"{file_id}.json", found)

    def add_batch(self, batch: StoredBatch) -> None:
        """Keep a new batch, within what the key and all together may keep."""
        settings = self._store.settings
        if len(self.unfinished()) >= (most := settings.batch_key_active):
            raise StorageLimitError(
                f"This key has {most} batches that have not ended, the most it may have at once "
                "(`batch_key_active`).",
                code="batch_limit_exceeded",
            )
        self._check_files("input_file_id", "has no room for its results: this key")
        too_many = 1 + len(records_in(self.batches)) - (most := settings.batch_key_batches)
        if self._drop_batches(too_many, 0) < too_many:
            raise StorageLimitError(
                f"This key keeps {most} batches that have not ended or whose results are still "
                "there, the most it may (`batch_key_batches`); delete the results of old ones.",
                code="batch_limit_exceeded",
            )
        if (room := self.make_room()).left <= 0:
            what = f"has no room for its results: {room.taken()}; delete some."
            raise StorageLimitError.of("input_file_id", what, _FULL)
        try:
            self._make()
            (self.active / batch.id).touch(0o600)
            batch.save(self.batches)
        except OSError as error:
            raise StorageError(error) from None
        self._store.usage.add(self.path, size_of(self.batches / f"{batch.id}.json"))

    def unfinished(self) -> list[StoredBatch]:
        """The batches that have not ended, in no order; their marks are all that is looked at."""
        found = []
        for name in names_in(self.active):
            batch = StoredBatch.load(self.batches / f"{name}.json")
            if batch is not None and not batch.ended:
                found.append(batch)
            elif batch is not None:
                with contextlib.suppress(OSError):  # then it is looked at again
                    (self.active / name).unlink()
        return found

    def mark_unfinished(self) -> None:
        """Find batches without a mark: of an earlier release, or one that was lost."""
        for path in records_in(self.batches):
            mark = self.active / path.stem
            batch = None if mark.exists() else StoredBatch.load(path)
            if batch is not None and not batch.ended:
                self._make()
                mark.touch(0o600)

    def room(self, age: float = 0.0) -> Room:
        """Bytes that are left to this key, by a measure of at most ``age`` seconds."""
        return self._store.usage.room(self.path, age)

    def make_room(self) -> Room:
        """What is left, once batches without results have made room where there was none."""
        room = self.room()
        full = room.left <= 0 and room.setting == "batch_key_bytes"
        return self.room() if full and self._drop_batches(0, 1 - room.left) else room

    def deletable(self) -> int:
        """Bytes that this key's clients can make room of, uploads that may be given up included."""
        needed = {batch.input_file_id for batch in self.unfinished()}
        files = (path for path in records_in(self.files) if path.stem not in needed)
        stored = sum(size_of(path) + size_of(self.data_path(path.stem)) for path in files)
        return stored + sum(size_of(path) for path in self.files.glob(f"*{UPLOADING}"))

    def cancel(self, batch_id: str) -> StoredBatch:
        """Ask for a batch to be cancelled; one that has ended stays as it is."""
        found = self.batch(batch_id)
        if not found.ended:
            try:
                with contextlib.suppress(FileExistsError):
                    self.cancel_path(found).touch(0o600, exist_ok=False)
            except OSError as error:
                raise StorageError(error) from None
        return self.batch(batch_id)

    def cancel_path(self, batch: StoredBatch) -> Path:
        """The file that asks for it, and whose time is when it was asked for."""
        return self.batches / f"{batch.id}{CANCEL}"

    def _as_asked(self, batch: StoredBatch) -> StoredBatch:
        if not batch.ended:
            try:
                asked = int(self.cancel_path(batch).stat().st_mtime)
            except FileNotFoundError:
                return batch
            batch.reached("cancelling", asked)
        return batch

    def _check_files(self, field: str, which: str) -> None:
        kept, most = len(records_in(self.files)), self._store.settings.batch_key_files
        if kept >= most:
            what = f"{which} keeps {kept} files, the most it may (`batch_key_files`); delete some."
            raise StorageLimitError.of(field, what, _FULL)

    def _drop_batches(self, count: int, size: int) -> int:
        """Forget so many ended batches and bytes, the oldest first; how many it were.

        Those of which no result is left: clients can delete files, but no batch.
        """
        dropped = 0
        for batch in reversed(self.list_batches() if count > 0 or size > 0 else []):
            if dropped >= count and size <= 0:
                break
            results = (batch.output_file_id, batch.error_file_id)
            if batch.ended and not any(self.data_path(one).exists() for one in results):
                path = self.batches / f"{batch.id}.json"
                size -= size_of(path)
                self._store.remove(path, batch)
                dropped += 1
        return dropped

    def _make(self) -> None:
        for folder in (self.path, self.files, self.batches, self.active):
            make_private(folder)
        tighten(self.path)


class BatchStore:
    """The whole folder."""

    def __init__(self, folder: Path, settings: BatchSettings, clock: Clock = time) -> None:
        self.folder = folder
        self.settings = settings
        self.clock = clock
        self.usage = Usage(folder, settings)

    @property
    def keep_seconds(self) -> int:
        """How long files and ended batches are kept."""
        return int(self.settings.batch_keep_days * 24 * 3600)

    def prepare(self) -> None:
        """Make the folder, which nobody else may read; ``OSError`` if that cannot be."""
        make_private(self.folder)
        probe = self.folder / f"{_PROBE}{os.getpid()}"
        probe.touch(0o600)
        probe.unlink()
        for folder in (self.folder, *key_folders(self.folder)):
            # What holds other things, too, was not made for this alone: its mode is not ours.
            if (folder == self.folder and self._holds_others()) or not tighten(folder):
                warn_of_readers(folder)

    def of(self, owner: str) -> KeyFolder:
        """The folder of an API key by its name; "" where no key is required."""
        return KeyFolder(self, self.folder / (f"{OF_KEY}{owner}" if owner else EVERYBODY))

    def owners(self) -> list[str]:
        """Who has a folder."""
        names = (path.name for path in key_folders(self.folder))
        return sorted("" if name == EVERYBODY else name.removeprefix(OF_KEY) for name in names)

    def unfinished(self) -> Iterator[tuple[str, StoredBatch]]:
        """Every batch that has not ended with its owner, the oldest first."""
        found = (
            (batch.created_at, batch.id, owner, batch)
            for owner in self.owners()
            for batch in self.of(owner).unfinished()
        )
        for *_, owner, batch in sorted(found, key=lambda entry: entry[:3]):
            yield owner, batch

    def mark_unfinished(self) -> None:
        """Find all batches that have not ended, marked or not; the others are read this once."""
        for owner in self.owners():
            self.of(owner).mark_unfinished()

    def alive(self, record: R | None) -> R | None:
        """The record, unless it has expired."""
        return None if self.expired(record) else record

    def listed(self, folder: Path, kind: type[R]) -> list[R]:
        """The records of a folder, the newest first."""
        found = (self.alive(kind.load(path)) for path in records_in(folder))
        return sorted(
            (record for record in found if record is not None),
            key=lambda record: (record.created_at, record.id),
            reverse=True,
        )

    def remove(self, path: Path, record: Record) -> None:
        """Delete what lies at ``path``: the record first, so that a file is never half there."""
        leave_trace(path, record.created_at)
        for suffix in (path.suffix, ".jsonl", CANCEL):
            path.with_suffix(suffix).unlink(missing_ok=True)
        self.usage.forget(path.parent.parent)

    def _holds_others(self) -> bool:
        known = {_LOCK, *(path.name for path in key_folders(self.folder))}
        return any(
            name not in known and not name.startswith(_PROBE) for name in names_in(self.folder)
        )

    def expired(self, record: Record | None) -> bool:
        """Whether the time for which it is kept is over."""
        expires = None if record is None else record.expires_at
        return expires is not None and expires <= self.clock()


def _not_found(what: str, given: str, param: str | None) -> FileNotFoundInStoreError:
    return FileNotFoundInStoreError(
        f"There is no {what} `{given[:64]}`.", param=param, code=f"{what}_not_found"
    )
