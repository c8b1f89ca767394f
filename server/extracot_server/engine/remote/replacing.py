"""From the upstreams of an engine to those that new settings want, before anything has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from extracot_server.config.upstreams_file import UpstreamSettings
from extracot_server.engine.remote.catalog import UpstreamMismatchError
from extracot_server.engine.remote.fleet import Fleet
from extracot_server.engine.remote.promise import Promise
from extracot_server.engine.remote.upstream import Upstream


async def replacing(
    fleet: Fleet,
    wanted: Sequence[UpstreamSettings],
    canary: Collection[str],
    promise: Promise,
    connect: Callable[[UpstreamSettings], Upstream],
) -> list[tuple[Upstream, UpstreamSettings]]:
    """The upstreams wanted, each with its settings: known ones as they are, new ones met.

    Raises :class:`UpstreamMismatchError` where a new one serves something else, or where requests
    would find none while they do now.
    """
    known = {upstream.url: upstream for upstream in fleet.all}
    added = [connect(one) for one in wanted if one.url not in known]
    try:
        await asyncio.gather(*(promise.meet(upstream) for upstream in added))
        found = known | {upstream.url: upstream for upstream in added}
        after = [(found[one.url], one) for one in wanted]
        if fleet.serves and not any(_serves(up, one, canary) for up, one in after):
            down = next((f"upstream {up.url}: {up.down}" for up, _ in after if up.down), None)
            raise UpstreamMismatchError(
                f"none of these upstreams can be used now ({down or 'all are drained'})"
            )
    except BaseException:
        await asyncio.gather(*(upstream.aclose() for upstream in added))
        raise
    return after


def _serves(upstream: Upstream, settings: UpstreamSettings, canary: Collection[str]) -> bool:
    """Whether it would take requests that are not the canary's."""
    drained = settings.drain or upstream.drained
    return upstream.down is None and not drained and settings.name not in canary
