"""``/health`` (this process), ``/ready`` (the engine) and ``/metrics``."""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import APIRouter, Request
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import Field
from starlette.responses import JSONResponse, PlainTextResponse, Response

from extracot_server.api.body import ReplyModel
from extracot_server.api.exchange import app_state
from extracot_server.api.openapi.errors import errors
from extracot_server.api.read_route import QueryRoute

router = APIRouter(route_class=QueryRoute)


class Status(ReplyModel):
    """The process answers."""

    status: Literal["ok"]


class Readiness(ReplyModel):
    """State of the engines."""

    status: str = Field(description="`ready`, or the state of the first engine")
    models: dict[str, str] = Field(description="the same for each model")


@router.get("/health")
async def health() -> Status:
    """200 as long as this process answers."""
    return Status(status="ok")


@router.get(
    "/ready",
    response_model=Readiness,
    response_description="At least one engine serves; with `model`, that model's",
    responses={503: {"model": Readiness, "description": "None does"}, **errors(400, 404)},
)
async def ready(request: Request, model: str | None = None) -> Response:
    """200 while an engine serves, else 503; of one model alone if it is named.

    Of several models those that are up can be asked, so one that is down makes the server no less
    ready: `models` says which.
    """
    state = app_state(request)
    await state.check_engines()
    names = list(state.services) if model is None else [state.find(model)[0].model.name]
    found = {name: state.engine_of(name) for name in names}
    up = any(engine.up for engine in found.values())
    notes = {name: "ready" if engine.up else engine.note for name, engine in found.items()}
    first = next(iter(notes.values()), "engine down")
    return JSONResponse({"status": "ready" if up else first, "models": notes}, 200 if up else 503)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    response_description="Prometheus' text format",
    responses=errors(401),
)
async def metrics(request: Request) -> Response:
    """Prometheus metrics: the server's own and, beside them, vLLM's (`vllm:*`).

    Always in Prometheus' text format: the client library's OpenMetrics turns the colon of vLLM's
    names into an underscore, unless the scraper speaks of UTF-8, which Prometheus 2 does not.
    In a thread of its own: a thousand keys take a tenth of a second, for which no reply would move.
    """
    state = app_state(request)
    for engine in state.engines:
        engine.show_upstreams()
    text = await asyncio.to_thread(generate_latest, state.metrics.exposed)
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)
