"""The folder of files and batches: ``FOLDER/key-NAME/{files,batches}``, a folder for each API key.

What a key may see is what lies in its folder, so another key's is not found at all. Several
processes may use one folder: a record appears by rename, and cancelling is a file of its own.
Blocking: event loops call it in threads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import BinaryIO, TypeVar

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
from extracot_server.config.batch_settings import BatchSettings
from extracot_server.errors import InvalidRequestError

R = TypeVar("R", bound=Record)
_UPLOADING = ".upload"
_ABANDONED_SECONDS = 24 * 3600.0
# What is left of a deleted record: nothing but its name, and as its time when the record was made.
_GONE = ".gone"
_GONE_SECONDS = 3600.0
Clock = Callable[[], float]


@dataclass(slots=True)
class Upload:
    """A file that is coming in; :meth:`KeyFolder.finish` or :meth:`discard` ends it."""

    id: str
    path: Path
    stream: BinaryIO
    limit: int
    whose: str | None = None
    """What takes the room beyond ``limit``, where that is less than a file may have."""
    size: int = 0

    def too_large(self) -> InvalidRequestError:
        """The error for a file beyond ``limit``."""
        if self.whose is None:
            return FileTooLargeError(self.limit)
        text = f"is larger than the {self.limit} bytes left: {self.whose} the rest; delete some."
        return StorageLimitError.of("file", text, "storage_limit_exceeded")

    def write(self, data: bytes) -> None:
        """Append; :class:`StorageError` for a full disk, :meth:`too_large` beyond the limit."""
        self.size += len(data)
        if self.size > self.limit:
            raise self.too_large()
        try:
            self.stream.write(data)
        except OSError as error:
            raise StorageError(error) from None

    def discard(self) -> None:
        """Leave nothing of it. Harmless when it is stored."""
        with contextlib.suppress(OSError):  # what was still to be written is not wanted
            self.stream.close()
        self.path.unlink(missing_ok=True)


class FileTooLargeError(InvalidRequestError):
    """The file is larger than the server keeps."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"`file` is larger than {limit} bytes.", param="file", code="request_too_large"
        )


class KeyFolder:
    """The files and batches of one API key."""

    def __init__(self, store: BatchStore, path: Path) -> None:
        self._store = store
        self.files = path / "files"
        self.batches = path / "batches"

    def begin_upload(self) -> Upload:
        """Take in a file, within what the key and all together may keep."""
        settings = self._store.settings
        kept = self.list_files()
        if len(kept) >= settings.batch_key_files:
            raise StorageLimitError.of(
                "file",
                f"is one too many: this key keeps {len(kept)} files, the most it may; delete some.",
                "storage_limit_exceeded",
            )
        used = sum(file.bytes for file in kept)
        left = settings.batch_key_bytes - used
        left_of_all = settings.batch_folder_bytes - self._store.bytes_used()
        whose = "this key's files take" if left <= left_of_all else "the files of all keys take"
        if min(left, left_of_all) <= 0:
            raise StorageLimitError.of(
                "file", f"has no room: {whose} all they may; delete some.", "storage_limit_exceeded"
            )
        file_id = new_file_id()
        path = self.files / f"{file_id}{_UPLOADING}"
        try:
            self._make()
            stream = open_private(path)
        except OSError as error:
            raise StorageError(error) from None
        limit = settings.batch_max_file_bytes
        if (room := min(left, left_of_all)) < limit:
            return Upload(file_id, path, stream, room, whose)
        return Upload(file_id, path, stream, limit)

    def finish(self, upload: Upload, filename: str, keep_seconds: int | None) -> StoredFile:
        """Store a whole upload: it is there after a crash, too."""
        try:
            upload.stream.flush()
            os.fsync(upload.stream.fileno())
            upload.stream.close()
            return self.adopt(upload.path, upload.id, filename, "batch", keep_seconds)
        except OSError as error:
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

    def made_at(self, record_id: str) -> int | None:
        """When a file or batch of this key was made: one that is here, or was within the hour."""
        found: Record | None
        if FILE_ID.fullmatch(record_id):
            path = self.files / f"{record_id}.json"
            found = StoredFile.load(path)
        elif BATCH_ID.fullmatch(record_id):
            path = self.batches / f"{record_id}.json"
            found = StoredBatch.load(path)
        else:
            return None
        if found is not None:
            return found.created_at
        try:
            return int(path.with_suffix(_GONE).stat().st_mtime)
        except FileNotFoundError:
            return None

    def list_files(self) -> list[StoredFile]:
        """All files, the newest first."""
        return self._store.listed(self.files, StoredFile)

    def list_batches(self) -> list[StoredBatch]:
        """All batches, the newest first."""
        return [self._as_asked(b) for b in self._store.listed(self.batches, StoredBatch)]

    def delete_file(self, file_id: str) -> None:
        """Delete a file, unless a batch that has not ended needs it."""
        found = self.file(file_id)
        for batch in self.list_batches():
            if not batch.ended and batch.input_file_id == found.id:
                raise InvalidRequestError(
                    f"The batch `{batch.id}` still needs this file: cancel it first.",
                    param="file_id",
                    code="file_in_use",
                )
        self._store.remove(self.files / f"{file_id}.json", found)

    def add_batch(self, batch: StoredBatch) -> None:
        """Keep a new batch."""
        most = self._store.settings.batch_key_active
        if sum(not known.ended for known in self.list_batches()) >= most:
            raise StorageLimitError(
                f"This key has {most} batches that have not ended, the most it may have at once.",
                code="batch_limit_exceeded",
            )
        try:
            self._make()
            batch.save(self.batches)
        except OSError as error:
            raise StorageError(error) from None

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
        return self.batches / f"{batch.id}.cancel"

    def _as_asked(self, batch: StoredBatch) -> StoredBatch:
        if not batch.ended:
            try:
                asked = int(self.cancel_path(batch).stat().st_mtime)
            except FileNotFoundError:
                return batch
            batch.reached("cancelling", asked)
        return batch

    def _make(self) -> None:
        for folder in (self.files, self.batches):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


class BatchStore:
    """The whole folder."""

    def __init__(self, folder: Path, settings: BatchSettings, clock: Clock = time) -> None:
        self.folder = folder
        self.settings = settings
        self.clock = clock
        self._ended: set[str] = set()

    @property
    def keep_seconds(self) -> int:
        """How long files and ended batches are kept."""
        return int(self.settings.batch_keep_days * 24 * 3600)

    def prepare(self) -> None:
        """Make the folder, which nobody else may read; ``OSError`` if that cannot be."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = self.folder / f".probe-{os.getpid()}"
        probe.touch(0o600)
        probe.unlink()

    def of(self, owner: str) -> KeyFolder:
        """The folder of an API key by its name; "" where no key is required."""
        return KeyFolder(self, self.folder / (f"key-{owner}" if owner else "everybody"))

    def owners(self) -> list[str]:
        """Who has a folder."""
        names = (path.name for path in self.folder.iterdir() if path.is_dir())
        return sorted(
            "" if name == "everybody" else name.removeprefix("key-")
            for name in names
            if name == "everybody" or name.startswith("key-")
        )

    def unfinished(self) -> Iterator[tuple[str, StoredBatch]]:
        """Every batch that has not ended with its owner, the oldest first."""
        found = []
        for owner in self.owners():
            for path in _records(self.of(owner).batches):
                batch = None if path.stem in self._ended else StoredBatch.load(path)
                if batch is not None and batch.ended:
                    self._ended.add(batch.id)  # that stays so, and this is called every second
                elif batch is not None:
                    found.append((batch.created_at, batch.id, owner, batch))
        for *_, owner, batch in sorted(found, key=lambda entry: entry[:3]):
            yield owner, batch

    def bytes_used(self) -> int:
        """Bytes of the files of all keys, those that are coming in or being written included."""
        if not self.folder.is_dir():
            return 0
        return sum(
            size_of(path)
            for path in self.folder.glob("*/files/*")
            if path.suffix not in (".json", _GONE)
        )

    def clean(self) -> None:
        """Delete what has expired, and uploads that were given up."""
        for owner in self.owners():
            folder = self.of(owner)
            in_use = {b.input_file_id for b in folder.list_batches() if not b.ended}
            for path in _records(folder.files):
                file = StoredFile.load(path)
                if path.stem not in in_use and file is not None and self._expired(file):
                    self.remove(path, file)
            for path in _records(folder.batches):
                batch = StoredBatch.load(path)
                if batch is not None and batch.ended and self._expired(batch):
                    self.remove(path, batch)
                    self._ended.discard(batch.id)
                    folder.cancel_path(batch).unlink(missing_ok=True)
            for path in folder.files.glob(f"*{_UPLOADING}"):
                if time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink(missing_ok=True)
            for path in (*folder.files.glob(f"*{_GONE}"), *folder.batches.glob(f"*{_GONE}")):
                with contextlib.suppress(FileNotFoundError):  # another process was first
                    if time() - path.stat().st_ctime > _GONE_SECONDS:
                        path.unlink()

    def alive(self, record: R | None) -> R | None:
        """The record, unless it has expired."""
        return None if self._expired(record) else record

    def listed(self, folder: Path, kind: type[R]) -> list[R]:
        """The records of a folder, the newest first."""
        found = (self.alive(kind.load(path)) for path in _records(folder))
        return sorted(
            (record for record in found if record is not None),
            key=lambda record: (record.created_at, record.id),
            reverse=True,
        )

    def remove(self, path: Path, record: Record) -> None:
        """Delete what lies at ``path``: the record first, so that a file is never half there."""
        with contextlib.suppress(OSError):  # without it, only a list that is being read suffers
            gone = path.with_suffix(_GONE)
            gone.touch(0o600)
            os.utime(gone, (record.created_at, record.created_at))
        path.unlink(missing_ok=True)
        path.with_suffix(".jsonl").unlink(missing_ok=True)

    def _expired(self, record: Record | None) -> bool:
        expires = None if record is None else record.expires_at
        return expires is not None and expires <= self.clock()


def open_private(path: Path) -> BinaryIO:
    """A file to write that only this user may read."""
    return open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if it has gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _records(folder: Path) -> Iterable[Path]:
    return [path for path in folder.glob("*.json") if not path.name.startswith(".")]


def _not_found(what: str, given: str, param: str | None) -> FileNotFoundInStoreError:
    return FileNotFoundInStoreError(
        f"There is no {what} `{given[:64]}`.", param=param, code=f"{what}_not_found"
    )
