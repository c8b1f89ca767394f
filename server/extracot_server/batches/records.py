"""What is kept of a file and of a batch: the JSON beside the data. Written whole, by rename."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path
from time import time_ns
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from extracot.files import write_atomic
from extracot_server.errors import InvalidRequestError

FILE_ID = re.compile(r"file-[0-9a-f]{32}")
BATCH_ID = re.compile(r"batch_[0-9a-f]{32}")
BatchStatus = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]
ENDED = frozenset({"failed", "completed", "expired", "cancelled"})
Purpose = Literal["batch", "batch_output"]
Endpoint = Literal["/v1/chat/completions", "/v1/responses", "/v1/messages"]


def new_file_id() -> str:
    """An id that no other file has, and that nobody guesses; of two, the later one is greater."""
    return f"file-{_unique()}"


def new_batch_id() -> str:
    """The same for a batch."""
    return f"batch_{_unique()}"


def _unique() -> str:
    # Lists are in the order of seconds, then of ids.
    return f"{time_ns():016x}{secrets.token_hex(8)}"


class FileNotFoundInStoreError(InvalidRequestError):
    """No such file or batch, or it is another key's."""


class StorageLimitError(InvalidRequestError):
    """A key, or all together, may not keep more than they do."""


class FileTooLargeError(InvalidRequestError):
    """The file is larger than the server keeps."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"`file` is larger than {limit} bytes.", param="file", code="request_too_large"
        )


class StorageError(InvalidRequestError):
    """The folder cannot be written: a full disk, say."""

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"The server cannot store this now: {error.strerror or error}.", code="storage_failed"
        )


class Record(BaseModel):
    """One object of the folder."""

    model_config = ConfigDict(extra="forbid")

    id: str
    created_at: int
    expires_at: int | None = None

    def save(self, folder: Path) -> None:
        """Write it into its folder; ``OSError`` leaves what was there."""
        write_atomic(folder / f"{self.id}.json", self.model_dump_json(), mode=0o600)

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """What is kept at ``path``; ``None`` if there is nothing, or no record."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None


class StoredFile(Record):
    """A file that a client sent, or the results of a batch."""

    bytes: int
    filename: str
    purpose: Purpose


class Fault(BaseModel):
    """Why a batch, or one of its lines, cannot run."""

    model_config = ConfigDict(extra="forbid")

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Counts(BaseModel):
    """Lines of a batch, by what became of them."""

    model_config = ConfigDict(extra="forbid")

    total: int = 0
    completed: int = 0
    failed: int = 0


class Tokens(BaseModel):
    """Tokens of the replies of a batch."""

    model_config = ConfigDict(extra="forbid")

    input: int = 0
    output: int = 0
    reasoning: int = 0


class StoredBatch(Record):
    """A batch. Its creator writes it once; from then on only the process that runs batches does."""

    status: BatchStatus = "validating"
    endpoint: Endpoint
    input_file_id: str
    completion_window: str
    deadline: int
    """When it expires, if it has not ended; ``expires_at`` is when an ended one is deleted."""
    metadata: dict[str, str] | None = None
    output_keep_seconds: int | None = None
    faults: list[Fault] = Field(default_factory=list)
    counts: Counts = Field(default_factory=Counts)
    tokens: Tokens = Field(default_factory=Tokens)
    output_file_id: str = Field(default_factory=new_file_id)
    error_file_id: str = Field(default_factory=new_file_id)
    ending: BatchStatus | None = None
    """What it ends as, once all its lines are through; then only its files are to be made."""
    has_output: bool = False
    has_errors: bool = False
    times: dict[str, int] = Field(default_factory=dict)
    """When it came to each status, in Unix seconds."""

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status in ENDED

    def reached(self, status: BatchStatus, now: int) -> None:
        """Note a new status."""
        self.status = status
        self.times.setdefault(status, now)


def json_line(value: object) -> bytes:
    """A value as a line of JSONL: ASCII, since some readers end a line at U+2028, too."""
    return json.dumps(value).encode("ascii") + b"\n"
