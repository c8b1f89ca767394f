"""``/v1/files``: input and results of batches, in OpenAI's shapes. A file belongs to its key."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import FileResponse, Response

from extracot_server.api.batch_store import folder_of, keep_seconds, page_of, place_after
from extracot_server.api.body import ReplyModel
from extracot_server.api.exchange import check_plain
from extracot_server.api.openapi.errors import errors
from extracot_server.api.read_route import ReadRoute
from extracot_server.api.uploads import Form, only, read_form
from extracot_server.batches.records import Purpose, StoredFile
from extracot_server.errors import InvalidRequestError

router = APIRouter()
reading = APIRouter(route_class=ReadRoute)
_ANCHOR, _SECONDS = "expires_after[anchor]", "expires_after[seconds]"
_FIELDS = frozenset({"purpose", _ANCHOR, _SECONDS})
_REST_OF_FORM = 64 * 1024
"""Bytes of a form besides its file."""
MOST_LISTED = 10_000
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "JSONL: a request a line",
                        },
                        "purpose": {"const": "batch"},
                        _ANCHOR: {"const": "created_at"},
                        _SECONDS: {
                            "type": "integer",
                            "minimum": 3600,
                            "maximum": 2_592_000,
                            "description": "how long to keep it",
                        },
                    },
                }
            }
        },
    }
}


class FileObject(ReplyModel):
    """A file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None = Field(description="when it is deleted")
    filename: str
    purpose: Purpose
    status: Literal["processed"]


class FileList(ReplyModel):
    """Files of this key."""

    object: Literal["list"]
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(ReplyModel):
    """A file that has been deleted."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


def _shown(file: StoredFile) -> FileObject:
    return FileObject(object="file", status="processed", **file.model_dump())


@router.post(
    "/v1/files",
    responses=errors(400, 401, 404, 413, 415, 500, 503),
    openapi_extra=_FORM,
)
async def create_file(request: Request) -> FileObject:
    """Upload a file for a batch. It goes to the disk as it arrives."""
    folder = folder_of(request)
    check_plain(request)
    upload = await asyncio.to_thread(folder.begin_upload)
    try:
        form = await read_form(
            request.headers.get("content-type", ""),
            request.stream(),
            upload.write,
            upload.limit + _REST_OF_FORM,
            upload.too_large,
        )
        filename, keep = _checked(form, upload.size)
        stored = await asyncio.to_thread(folder.finish, upload, filename, keep)
    except BaseException:
        upload.discard()
        raise
    return _shown(stored)


def _checked(form: Form, size: int) -> tuple[str, int | None]:
    """Name of the file and how long to keep it."""
    only(form.fields, _FIELDS)
    for name, given in (("file", form.filename), ("purpose", form.fields.get("purpose"))):
        if given is None:
            raise InvalidRequestError.of(name, "is missing.", "missing_required_parameter")
    if form.fields["purpose"] != "batch":
        raise InvalidRequestError.of("purpose", 'must be "batch".')
    if not size:
        raise InvalidRequestError.of("file", "is empty.")
    seconds: object = form.fields.get(_SECONDS)
    if isinstance(seconds, str) and seconds.isascii() and seconds.isdigit():
        seconds = int(seconds[:12])
    keep = keep_seconds(form.fields.get(_ANCHOR), seconds, "expires_after")
    return form.filename or "file", keep


@reading.get("/v1/files", responses=errors(400, 401, 404, 500))
async def list_files(
    request: Request,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = MOST_LISTED,
    order: Literal["asc", "desc"] = "desc",
    purpose: str | None = None,
) -> FileList:
    """The files of this key, results of batches included."""
    folder, down = folder_of(request), order == "desc"
    place = await place_after(folder, StoredFile, after)
    found = await asyncio.to_thread(folder.list_files)
    found = [file for file in found if purpose is None or file.purpose == purpose]
    page, ends = page_of(found if down else found[::-1], place, limit, newest_first=down)
    return FileList(data=[_shown(file) for file in page], **ends)


@reading.get("/v1/files/{file_id}", responses=errors(401, 404, 500))
async def get_file(request: Request, file_id: str) -> FileObject:
    """One file."""
    return _shown(await asyncio.to_thread(folder_of(request).file, file_id))


@reading.get(
    "/v1/files/{file_id}/content",
    response_class=FileResponse,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string"}}}},
        **errors(401, 404, 500),
    },
)
async def get_content(request: Request, file_id: str) -> Response:
    """What is in a file."""
    folder = folder_of(request)
    found = await asyncio.to_thread(folder.file, file_id)
    return FileResponse(
        folder.data_path(file_id), media_type="application/octet-stream", filename=found.filename
    )


_DELETED = {"id": "file-0123456789abcdef0123456789abcdef", "object": "file", "deleted": True}


@router.delete(
    "/v1/files/{file_id}",
    responses={
        200: {"content": {"application/json": {"examples": {"a reply": {"value": _DELETED}}}}},
        **errors(400, 401, 404, 500),
    },
)
async def delete_file(request: Request, file_id: str) -> DeletedFile:
    """Delete a file; one that a batch still needs is a 400."""
    await asyncio.to_thread(folder_of(request).delete_file, file_id)
    return DeletedFile(id=file_id, object="file", deleted=True)
