"""Batches of requests: upload a file, start, watch, fetch the results. Calls of the API only.

Works with any server that has OpenAI's ``/v1/files`` and ``/v1/batches``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from extracot_client import base
from extracot_client.client import Extracot

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


class _Reply(BaseModel):
    model_config = ConfigDict(extra="allow")


class UploadedFile(_Reply):
    """A file on the server."""

    id: str


class BatchCounts(_Reply):
    """Lines of a batch."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchFault(_Reply):
    """Why a batch could not run."""

    message: str | None = None


class BatchFaults(_Reply):
    """All of them."""

    data: list[BatchFault] = Field(default_factory=list)


class Batch(_Reply):
    """A batch as the server sees it."""

    id: str
    status: str
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: BatchFaults | None = None
    request_counts: BatchCounts = Field(default_factory=BatchCounts)

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status in ENDED

    @property
    def faults(self) -> list[str]:
        """Why it could not run, or waits."""
        found = self.errors.data if self.errors is not None else []
        return [str(fault.message) for fault in found]


class BatchPage(_Reply):
    """Some of the batches, the newest first."""

    data: list[Batch]
    has_more: bool = False


class Batches:
    """The batches of a client's key."""

    def __init__(self, client: Extracot) -> None:
        self._client = client

    def upload(self, path: Path) -> UploadedFile:
        """Send a file as it is read; it is not held in memory."""
        with path.open("rb") as stream:

            def form() -> dict[str, Any]:
                stream.seek(0)
                sent = {"file": (path.name, stream, "application/jsonl")}
                return {"data": {"purpose": "batch"}, "files": sent}

            return self._once(UploadedFile, "v1/files", form)

    def create(self, file_id: str, endpoint: str, window: str) -> Batch:
        """Start a batch of an uploaded file."""
        body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": window}
        return self._once(Batch, "v1/batches", lambda: {"json": body})

    def of_file(self, file_id: str) -> Batch | None:
        """The newest batch of an uploaded file, if there is one."""
        place = "v1/batches?limit=100"
        while True:
            page = self._call(BatchPage, "GET", place)
            for batch in page.data:
                if batch.input_file_id == file_id:
                    return batch
            if not page.has_more or not page.data:
                return None
            place = f"v1/batches?limit=100&after={quote(page.data[-1].id, safe='')}"

    def get(self, batch_id: str) -> Batch:
        """A batch and how far it is."""
        return self._call(Batch, "GET", _place(batch_id))

    def cancel(self, batch_id: str) -> Batch:
        """Stop a batch; what has been answered is kept."""
        return self._call(Batch, "POST", f"{_place(batch_id)}/cancel")

    def download(self, file_id: str, path: Path) -> None:
        """A file's content to ``path``, which appears when it is whole."""
        exchange = self._client._core.exchange()
        place = f"v1/files/{quote(file_id, safe='')}/content"
        response = self._client._send(exchange, "GET", place, None)
        part = path.with_name(f"{path.name}.part")
        try:
            with (
                closing(response),
                part.open("wb") as stream,
                closing(self._client._pieces(response, exchange)) as pieces,
            ):
                stream.writelines(pieces)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def _call(self, kind: type[base.Page], method: str, path: str) -> base.Page:
        exchange = self._client._core.exchange()
        response = self._client._send(exchange, method, path, None)
        raw = self._client._read_body(response, exchange, base.MAX_JSON_BODY)
        return base.parse_page(kind, response, raw)

    def _once(
        self, kind: type[base.Page], path: str, content: Callable[[], dict[str, Any]]
    ) -> base.Page:
        """A POST that is not repeated when its reply is lost."""
        exchange = self._client._core.exchange()
        response = self._client._send(exchange, "POST", path, content, once=True)
        raw = self._client._read_body(response, exchange, base.MAX_JSON_BODY)
        return base.parse_page(kind, response, raw)


def _place(batch_id: str) -> str:
    return f"v1/batches/{quote(batch_id, safe='')}"
