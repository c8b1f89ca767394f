"""``/v1/batches``: requests that run in the background, in OpenAI's shapes, budgets included."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict, Field
from starlette.responses import JSONResponse, Response

from extracot_server.api.batch_store import folder_of, page_of, place_after, runner_of
from extracot_server.api.body import Body, ReplyModel, validated
from extracot_server.api.exchange import BodyRoute
from extracot_server.api.openapi.errors import errors
from extracot_server.api.read_route import ReadRoute
from extracot_server.batches.records import (
    BatchStatus,
    Endpoint,
    Fault,
    StoredBatch,
    new_batch_id,
)
from extracot_server.errors import InvalidRequestError

router = APIRouter(route_class=BodyRoute)
plain = APIRouter()
reading = APIRouter(route_class=ReadRoute)
_WINDOW = r"(([1-9][0-9]?|[12][0-9]{2}|3[0-2][0-9]|33[0-6])h|([1-9]|1[0-4])d)"
"""1h to 336h, or 1d to 14d."""
_MOST_METADATA = 16
Word = Annotated[str, Field(max_length=64)]
Text = Annotated[str, Field(max_length=512)]


class ExpiresAfter(Body):
    """How long to keep something."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=2_592_000)


class BatchRequest(Body):
    """The body of a new batch."""

    model_config = ConfigDict(extra="forbid")

    input_file_id: str = Field(description="a file of this key with purpose `batch`")
    endpoint: Endpoint = Field(description="where all its lines go")
    completion_window: str = Field(
        description="what has not run after this time has expired: `24h`, or 1h to 14d",
        pattern=rf"^{_WINDOW}$",
        examples=["24h"],
    )
    metadata: dict[Word, Text] | None = Field(None, max_length=_MOST_METADATA)
    output_expires_after: ExpiresAfter | None = Field(
        None, description="how long the results are kept"
    )

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        """A JSON object as this body; :class:`InvalidRequestError` for its first wrong field."""
        unknown = next((key for key in body if key not in cls.model_fields), None)
        if unknown is not None:
            allowed = ", ".join(cls.model_fields)
            what = f"is not known here. Allowed: {allowed}."
            raise InvalidRequestError.of(unknown[:64], what, "unsupported_parameter")
        return validated(cls, body)

    @property
    def hours(self) -> int:
        """The completion window."""
        number, unit = int(self.completion_window[:-1]), self.completion_window[-1]
        return number * (24 if unit == "d" else 1)


class BatchRequestCounts(ReplyModel):
    """Lines of a batch."""

    total: int
    completed: int
    failed: int


class BatchInputTokens(ReplyModel):
    """What the input was."""

    cached_tokens: int = Field(0, description="not counted: always 0")


class BatchOutputTokens(ReplyModel):
    """What the output was."""

    reasoning_tokens: int


class BatchUsage(ReplyModel):
    """Tokens of the replies so far."""

    input_tokens: int
    input_tokens_details: BatchInputTokens
    output_tokens: int
    output_tokens_details: BatchOutputTokens
    total_tokens: int


class BatchErrors(ReplyModel):
    """Why nothing of a batch could run, or why it waits."""

    object: Literal["list"]
    data: list[Fault]


class BatchObject(ReplyModel):
    """A batch."""

    id: str
    object: Literal["batch"]
    endpoint: Endpoint
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None = Field(description="replies; once the batch has ended")
    error_file_id: str | None = Field(description="lines that failed; once the batch has ended")
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: BatchRequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None


class BatchList(ReplyModel):
    """Batches of this key."""

    object: Literal["list"]
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


def _shown(batch: StoredBatch) -> BatchObject:
    times = {
        f"{status}_at": batch.times.get(status)
        for status in (
            *("in_progress", "finalizing", "completed", "failed"),
            *("expired", "cancelling", "cancelled"),
        )
    }
    tokens = batch.tokens
    return BatchObject(
        id=batch.id,
        object="batch",
        endpoint=batch.endpoint,
        errors=BatchErrors(object="list", data=batch.faults) if batch.faults else None,
        input_file_id=batch.input_file_id,
        completion_window=batch.completion_window,
        status=batch.status,
        output_file_id=batch.output_file_id if batch.ended and batch.has_output else None,
        error_file_id=batch.error_file_id if batch.ended and batch.has_errors else None,
        created_at=batch.created_at,
        expires_at=batch.deadline,
        request_counts=BatchRequestCounts(**batch.counts.model_dump()),
        usage=BatchUsage(
            input_tokens=tokens.input,
            input_tokens_details=BatchInputTokens(),
            output_tokens=tokens.output,
            output_tokens_details=BatchOutputTokens(reasoning_tokens=tokens.reasoning),
            total_tokens=tokens.input + tokens.output,
        ),
        metadata=batch.metadata,
        **times,
    )


@router.post(
    "/v1/batches",
    response_model=BatchObject,
    responses=errors(400, 401, 404, 413, 415, 500, 503),
)
async def create_batch(request: Request, body: BatchRequest) -> Response:
    """Run the requests of a file in the background, after everybody else's."""
    runner, folder = runner_of(request), folder_of(request)
    file = await asyncio.to_thread(folder.file, body.input_file_id, "input_file_id")
    if file.purpose != "batch":
        raise InvalidRequestError.of("input_file_id", "is a batch's result, not its input.")
    now = int(runner.store.clock())
    after = body.output_expires_after
    batch = StoredBatch(
        id=new_batch_id(),
        created_at=now,
        endpoint=body.endpoint,
        input_file_id=file.id,
        completion_window=body.completion_window,
        deadline=now + body.hours * 3600,
        metadata=body.metadata,
        output_keep_seconds=None if after is None else after.seconds,
    )
    await asyncio.to_thread(folder.add_batch, batch)
    runner.wake()
    return JSONResponse(_shown(batch).model_dump())


@reading.get("/v1/batches", responses=errors(400, 401, 404, 500))
async def list_batches(
    request: Request,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> BatchList:
    """The batches of this key, the newest first."""
    folder = folder_of(request)
    place = await place_after(folder, StoredBatch, after)
    page, ends = page_of(await asyncio.to_thread(folder.list_batches), place, limit)
    return BatchList(data=[_shown(batch) for batch in page], **ends)


@reading.get("/v1/batches/{batch_id}", responses=errors(401, 404, 500))
async def get_batch(request: Request, batch_id: str) -> BatchObject:
    """One batch and how far it is."""
    return _shown(await asyncio.to_thread(folder_of(request).batch, batch_id))


@plain.post("/v1/batches/{batch_id}/cancel", responses=errors(400, 401, 404, 413, 500, 503))
async def cancel_batch(request: Request, batch_id: str) -> BatchObject:
    """Stop a batch; what has been answered is kept. One that has ended stays as it is."""
    found = await asyncio.to_thread(folder_of(request).cancel, batch_id)
    runner_of(request).wake()
    return _shown(found)
