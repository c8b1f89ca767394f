"""``/health`` (this process), ``/ready`` (the engine) and ``/metrics``."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client.exposition import choose_encoder
from starlette.responses import JSONResponse, Response

from extracot_server.api.state import app_state

router = APIRouter()


@router.get("/health")
async def health() -> dict[str, str]:
    """200 as long as this process answers."""
    return {"status": "ok"}


@router.get("/ready")
async def ready(request: Request) -> Response:
    """200 while the engine serves, else 503."""
    state = app_state(request)
    if state.engine_up:
        await state.check_engine()
    status = 200 if state.engine_up else 503
    return JSONResponse({"status": "ready" if status == 200 else state.engine_note}, status)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus metrics: the server's own and, beside them, vLLM's (`vllm:*`)."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    body = encode(app_state(request).metrics.registry)
    return Response(body, media_type=content_type)
