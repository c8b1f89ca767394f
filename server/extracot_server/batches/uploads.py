"""A file that is coming in: to the disk as it arrives, within what its key may keep. Blocking."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from extracot_server.batches.records import FileTooLargeError, StorageError, StorageLimitError
from extracot_server.batches.room import Room
from extracot_server.errors import InvalidRequestError


@dataclass(slots=True)
class Upload:
    """A file that is coming in; ``KeyFolder.finish`` or :meth:`discard` ends it."""

    id: str
    path: Path
    stream: BinaryIO
    limit: int
    room: Room | None = None
    """What bounds it to ``limit``, where that is less than a file may have."""
    size: int = 0

    def too_large(self) -> InvalidRequestError:
        """The error for a file beyond ``limit``."""
        if self.room is None:
            return FileTooLargeError(self.limit)
        text = (
            f"is larger than the {self.limit} bytes left: {self.room.whose} take the rest of the "
            f"{self.room.most} that `{self.room.setting}` allows; delete some."
        )
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
