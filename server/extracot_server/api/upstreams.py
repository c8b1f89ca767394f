"""``/v1/upstreams``: the servers behind engine ``remote``, and draining one of them."""

from __future__ import annotations

import logging
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import Field

from extracot_server.api.admin import check_admin
from extracot_server.api.auth import principal_of
from extracot_server.api.body import ReplyModel
from extracot_server.api.errors import ConflictError, UnknownUpstreamError
from extracot_server.api.exchange import app_state
from extracot_server.api.openapi.errors import errors
from extracot_server.api.read_route import ReadRoute
from extracot_server.engine.base import DrainRefusedError, Fronting, UpstreamState
from extracot_server.model_registry.engine_handle import EngineHandle

router = APIRouter(route_class=ReadRoute)
log = logging.getLogger("extracot.server")
State = Literal["serving", "draining", "drained", "down"]
_DONE = {True: "drains", False: "takes back"}


class UpstreamEntry(ReplyModel):
    """A server behind one model's engine, as this process sees it."""

    model: str
    name: str
    url: str
    state: State = Field(
        description="`draining`: it gets no new requests and still has some; `drained`: it has none"
    )
    reason: str | None = Field(description="why it is down")
    drained_by: Literal["file", "call"] | None
    weight: int
    max_running: int | None = Field(description="requests at once; null: as many as come")
    canary: bool = Field(description="it is for the canary's requests")
    running: int = Field(description="requests of this process that it works on")
    taken: int = Field(description="requests that this process has given it")


class UpstreamList(ReplyModel):
    """All upstreams of all models."""

    object: Literal["list"]
    data: list[UpstreamEntry]


@router.get("/v1/upstreams", responses=errors(401, 403, 500))
async def list_upstreams(request: Request) -> UpstreamList:
    """The servers behind this one: what each is doing, its weight, whether it is drained.

    For an admin key, where keys are required.
    """
    check_admin(request, orders=False)
    return _list(request)


@router.post("/v1/upstreams/{name}/drain", responses=errors(400, 401, 403, 404, 409, 413, 500))
async def drain_upstream(request: Request, name: str) -> UpstreamList:
    """Give an upstream no new requests; what it has goes on. It holds until `undrain`.

    For an admin key. It is of this process alone: with several workers it is refused, and the
    upstreams file with SIGHUP does it for all.
    """
    return _drain(request, name, wanted=True)


@router.post("/v1/upstreams/{name}/undrain", responses=errors(400, 401, 403, 404, 409, 413, 500))
async def undrain_upstream(request: Request, name: str) -> UpstreamList:
    """Give it requests again; refused where the upstreams file drains it."""
    return _drain(request, name, wanted=False)


def _drain(request: Request, name: str, *, wanted: bool) -> UpstreamList:
    check_admin(request, orders=True)
    state = app_state(request)
    if state.settings.workers > 1:
        raise ConflictError(
            f"This server has {state.settings.workers} workers, and a call reaches one of them: "
            "set `drain` in the upstreams file and send SIGHUP, which reaches all."
        )
    fronting = [handle.engine for handle in state.engines if isinstance(handle.engine, Fronting)]
    try:
        found = [engine.drain(name, wanted=wanted, try_only=True) for engine in fronting]
    except DrainRefusedError as error:
        raise ConflictError(f"{error}.") from None
    if not any(found):
        names = dict.fromkeys(one.name for engine in fronting for one in engine.upstreams())
        raise UnknownUpstreamError(name, list(names))
    for engine in fronting:
        engine.drain(name, wanted=wanted)
    log.info("key %s %s upstream %s", principal_of(request).name, _DONE[wanted], name)
    for handle in state.engines:
        handle.show_upstreams()
    return _list(request)


def _list(request: Request) -> UpstreamList:
    entries = [entry for handle in app_state(request).engines for entry in _entries(handle)]
    return UpstreamList(object="list", data=entries)


def _state(one: UpstreamState) -> State:
    if one.drained_by is not None:
        return "draining" if one.running else "drained"
    return "serving" if one.down is None else "down"


def _entries(handle: EngineHandle) -> list[UpstreamEntry]:
    if not isinstance(handle.engine, Fronting):
        return []
    return [
        UpstreamEntry(
            model=handle.models[0],
            name=one.name,
            url=one.url,
            state=_state(one),
            reason=one.down,
            drained_by=one.drained_by,
            weight=one.weight,
            max_running=one.max_running,
            canary=one.canary,
            running=one.running,
            taken=one.taken,
        )
        for one in handle.engine.upstreams()
    ]
