"""``GET /v1/usage``: what this key has used, and for an admin key what all have, by hour or day."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from time import time
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from extracot_server.admission.scheduler import Refusal
from extracot_server.api.auth import principal_of
from extracot_server.api.body import ReplyModel
from extracot_server.api.errors import ForbiddenError
from extracot_server.api.exchange import app_state
from extracot_server.api.openapi.errors import errors
from extracot_server.api.read_route import QueryRoute
from extracot_server.errors import InvalidRequestError
from extracot_server.ledger.reports import ReportRefusedError
from extracot_server.ledger.store import StoreError
from extracot_server.ledger.windows import DAY, HOUR, KEPT, bucket, hour_of, iso

router = APIRouter(route_class=QueryRoute)

_LONGEST = {"hour": 31 * DAY, "day": KEPT["usage"]}
_NEWEST = 253_402_300_800  # the year 10000
_RETRY_SECONDS = 5
_NO_ANSWER = "The usage store gave no report in time; ask again shortly, or for fewer days."
_Kept = Mapping[str, Mapping[str, float]]


class UsageRow(ReplyModel):
    """What one key has used of one model in one hour or day."""

    start: str = Field(description="of the hour or day, UTC")
    key: str = Field(description="its name; empty where no key is required")
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int = Field(description="generated, reasoning included")
    reasoning_tokens: int
    answer_tokens: int
    saved_tokens: float = Field(description="claimed; negative where more was spent than saved")


class UsageList(ReplyModel):
    """Usage, oldest first. Hours and days without any are left out."""

    object: Literal["list"]
    data: list[UsageRow]


@router.get(
    "/v1/usage",
    response_model=UsageList,
    response_description="JSON, or a table with `format=csv`",
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        **errors(400, 401, 403, 429, 500, 503),
    },
)
async def get_usage(
    request: Request,
    by: Literal["hour", "day"] = "day",
    start: str | None = None,
    end: str | None = None,
    key: str | None = None,
    format: Literal["json", "csv"] = "json",
) -> Response:
    """Requests and tokens of this key; an admin key gets those of all keys, or of `key`.

    `start` and `end` are dates (`2026-11-29`), times (`2026-11-29T06:00:00Z`) or Unix seconds, in
    UTC; by default the last day by hour, the last 30 days by day. A request counts in the hour in
    which it came in. One report of a key at a time: another one meanwhile is a 429.
    """
    principal, state = principal_of(request), app_state(request)
    if key is not None and key != principal.name and not principal.admin:
        raise ForbiddenError(
            "`key`: this key may see its own usage only; an entry with `admin: true` sees all.",
            param="key",
            code="not_allowed",
        )
    if state.meter.ledger is None:
        raise InvalidRequestError(
            "Usage is not kept here: `usage_store` is off.", code="unsupported_parameter"
        )
    first, last = _range(by, start, end)
    hours = [bucket("usage", hour) for hour in range(first, last, HOUR)]
    whose = key if key is not None or principal.admin else principal.name
    try:
        kept = await state.meter.ledger.report(principal.name, hours, whose)
    except StoreError:
        raise ReportRefusedError(Refusal.NO_STORE, _NO_ANSWER, _RETRY_SECONDS) from None
    # Of many keys and days it is long: other requests go on meanwhile.
    return await asyncio.to_thread(_reply, kept, HOUR if by == "hour" else DAY, format)


def _reply(kept: _Kept, width: int, format: Literal["json", "csv"]) -> Response:
    rows = _rows(kept, width)
    if format == "csv":
        return Response(_table(rows), media_type="text/csv")
    text = UsageList(object="list", data=rows).model_dump_json()
    return Response(text, media_type="application/json")


def _range(by: Literal["hour", "day"], start: str | None, end: str | None) -> tuple[int, int]:
    """The hours asked for, as Unix seconds; raises :class:`InvalidRequestError`."""
    now = time()
    last = hour_of(now) + HOUR if end is None else _moment("end", end)
    if start is None:
        default = DAY if by == "hour" else 30 * DAY
        first = last - default
        first -= first % (HOUR if by == "hour" else DAY)
    else:
        first = _moment("start", start)
    if first >= last:
        raise InvalidRequestError.of("start", "must be before `end`.")
    if last - first > _LONGEST[by]:
        days = _LONGEST[by] // DAY
        raise InvalidRequestError.of("start", f"is more than {days} days before `end`.")
    return max(0, hour_of(first)), last


def _moment(field: str, text: str) -> int:
    try:
        if re.fullmatch(r"[0-9]{1,12}", text):
            found = int(text)
        else:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            found = int(moment.timestamp())
    except (ValueError, OverflowError):
        found = -1
    if not 0 <= found < _NEWEST:
        raise InvalidRequestError.of(
            field, "must be a date (2026-11-29), a time (2026-11-29T06:00:00Z) or Unix seconds."
        )
    return found


def _rows(kept: _Kept, width: int) -> list[UsageRow]:
    """The counters as rows, one for each key and model in so many seconds."""
    found: defaultdict[tuple[int, str, str], dict[str, float]] = defaultdict(dict)
    for name, counters in kept.items():
        hour = int(name.rpartition(":")[2])
        for counter, amount in counters.items():
            key, model, kind = counter.split(" ")
            row = found[hour - hour % width, key, model]
            row[kind] = row.get(kind, 0.0) + amount
    return [_row(*place, counts) for place, counts in sorted(found.items())]


def _row(start: int, key: str, model: str, counts: Mapping[str, float]) -> UsageRow:
    def tokens(kind: str) -> int:
        return round(counts.get(kind, 0.0))

    return UsageRow(
        start=iso(start),
        key=key,
        model=model,
        requests=tokens("requests"),
        prompt_tokens=tokens("prompt"),
        completion_tokens=tokens("completion"),
        reasoning_tokens=tokens("reasoning"),
        answer_tokens=tokens("answer"),
        saved_tokens=round(counts.get("saved", 0.0), 3),
    )


def _table(rows: Sequence[UsageRow]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(UsageRow.model_fields))
    writer.writeheader()
    writer.writerows(row.model_dump() for row in rows)
    return text.getvalue()
