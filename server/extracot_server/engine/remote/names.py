"""Names of upstreams: whether one name stands for several servers. Knows no requests.

An upstream is one server: its health, its load and its faults are told apart by its address. A name
with several (replicas of one service) would mix them all, so an operator is told.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import httpx

_log = logging.getLogger(__name__)

Resolve = Callable[[str, int], Awaitable[Sequence[tuple[int, str]]]]
"""Host and port to the addresses found, each with its family."""


async def resolve_name(host: str, port: int) -> list[tuple[int, str]]:
    """By the system's resolver; nothing where the name is unknown: its health says so better."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [(family, str(address[0])) for family, _, _, _, address in found]


async def shared_name(url: str, resolve: Resolve) -> str | None:
    """A line for the operator where the name in ``url`` has several addresses of one family.

    One of each family (IPv4 and IPv6) is one server.
    """
    parsed = httpx.URL(url)
    found = set(await resolve(parsed.host, parsed.port or 80))
    families = Counter(family for family, _ in found)
    most = max(families.values(), default=0)
    if most < 2:
        return None
    return (
        f"upstream {url}: the name has {most} addresses and is used as one server, with one health "
        "and one load; give each server an address of its own"
    )


async def tell_shared(url: str, resolve: Resolve) -> None:
    """Warn the operator of a name as in :func:`shared_name`."""
    if (line := await shared_name(url, resolve)) is not None:
        _log.warning(line)
