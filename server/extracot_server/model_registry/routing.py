"""Puts in force what upstreams files say: servers and canaries, at the start and on SIGHUP.

A file is taken as a whole or not at all; one that is wrong leaves what was. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path

from extracot.errors import CardError, ExtracotError
from extracot_server.config import in_force
from extracot_server.config.upstreams_file import (
    CanarySettings,
    UpstreamsError,
    UpstreamsFile,
    canary_in_words,
    difference,
)
from extracot_server.engine.base import EngineError, Fronting
from extracot_server.generation.trial import Canary
from extracot_server.model_registry.engine_handle import EngineHandle
from extracot_server.model_registry.loading import read_file, serve_model
from extracot_server.model_registry.registry import AppState

log = logging.getLogger("extracot.server")


def open_canaries(state: AppState) -> None:
    """Begin the canaries that the files name, once all models are served.

    Raises :class:`UpstreamsError`.
    """
    for handle in state.engines:
        if handle.settings.upstreams is not None:
            _begin(state, handle, _canary(state, handle, handle.file))
            if handle.file.refused:
                state.metrics.routing.reloaded.set(0)
                log.error("%s; the current upstreams stay in force", handle.file.refused)
            else:
                _keep(handle, first=True)


async def reload_upstreams(state: AppState) -> list[str]:
    """Read every upstreams file again; a line for each that says what is new, or what is wrong."""
    handles = [handle for handle in state.engines if handle.settings.upstreams is not None]
    lines = []
    async with state.reloading:
        right = True
        for handle in handles:
            whose = f"{handle.models[0]}: " if len(state.engines) > 1 else ""
            try:
                lines.append(f"{whose}upstreams: {await _reload(state, handle)}")
            except (ExtracotError, EngineError) as error:
                right = False
                lines.append(f"{whose}{error}; the current upstreams and canary stay in force")
        if handles:
            state.metrics.routing.reloaded.set(1 if right else 0)
    return lines


async def _reload(state: AppState, handle: EngineHandle) -> str:
    file = await asyncio.to_thread(read_file, handle.settings)
    canary = await asyncio.to_thread(_canary, state, handle, file)
    if isinstance(handle.engine, Fronting) and file.upstreams:
        names = file.canary.upstreams if file.canary is not None else ()
        await handle.engine.use_upstreams(file.upstreams, names)
    before = state.services[handle.models[0]].canary
    _begin(state, handle, canary)
    anew = before is not None and canary is not None and before.bucket != canary.bucket
    told = difference(handle.file, file, anew=anew)
    if handle.file.canary != file.canary:
        told += _alone(state, canary)
    handle.file = file
    _keep(handle)
    await handle.check()
    return told


def _keep(handle: EngineHandle, *, first: bool = False) -> None:
    if handle.settings.upstreams is not None:
        in_force.keep(handle.settings.upstreams, handle.file.text, first=first)


def _begin(state: AppState, handle: EngineHandle, canary: Canary | None) -> None:
    """Have requests go by this canary; the same one goes on with what it has found."""
    service = state.services[handle.models[0]]
    before = service.canary
    if before is None or canary is None or before.bucket != canary.bucket:
        service.canary = canary
    share = 0.0 if canary is None else canary.settings.share
    if canary is not None or before is not None:
        state.metrics.routing.share.labels(handle.models[0]).set(share)
        state.metrics.routing.open_canary(handle.models[0])


def _canary(state: AppState, handle: EngineHandle, file: UpstreamsFile) -> Canary | None:
    """The canary of a file. Raises :class:`UpstreamsError` where it cannot be."""
    wanted = file.canary
    if wanted is None:
        return None
    name = handle.models[0]
    if wanted.stick == "key" and not state.keys.required:
        raise UpstreamsError("canary.stick is key, and no API key is required here")
    if wanted.model is not None and (wanted.model == name or wanted.model not in state.services):
        others = ", ".join(other for other in state.services if other != name) or "none"
        raise UpstreamsError(f"canary.model must be another served model; there are: {others}")
    served, content = None, ""
    if wanted.card is not None and handle.engine.info.kind == "openai":
        raise UpstreamsError(
            "canary.card: engine openai has none, since nothing of one could be promised there"
        )
    if wanted.card is not None:
        own = {"card": wanted.card, "served_model_name": name, "lora": {}}
        try:
            content = Path(wanted.card).read_text(encoding="utf-8")
            served = serve_model(handle.settings.model_copy(update=own), handle.engine)
        except CardError as error:
            raise UpstreamsError(f"canary.card: {error}") from None
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "is not text"
            raise UpstreamsError(f"canary.card {wanted.card}: {why}") from None
    urls = [one.url for one in file.upstreams if one.name in wanted.upstreams]
    return Canary(name, wanted, _bucket(name, wanted, content, *urls), served)


def _bucket(model: str, canary: CanarySettings, *parts: str) -> str:
    """Where the store keeps its comparison: another one for whatever would make it unfair."""
    told = [model, canary.name, repr(canary.share), canary.stick, canary.target, *parts]
    return f"canary {hashlib.sha256(chr(0).join(told).encode()).hexdigest()[:16]}"


def canary_lines(state: AppState) -> list[str]:
    """A line for each canary, for the operator."""
    found = [(name, service.canary) for name, service in state.services.items()]
    return [
        f"{name}: {canary_in_words(one.settings)}{_alone(state, one)}"
        for name, one in found
        if one is not None
    ]


def _alone(state: AppState, canary: Canary | None) -> str:
    """What is to be known of a comparison that no other process adds to."""
    if canary is None or state.meter.shared:
        return ""
    return "; compared in this process alone and until it ends, as its usage_store is not shared"
