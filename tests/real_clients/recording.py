"""The real app on the scripted engine, with a record of what went over the wire.

Tests read from it what a client sent by itself, so that they cannot pass without what they are
about (an item reference, a second system message, a budget).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.live import Live, serve

MAX_MODEL_LEN = 200_000
"""Agents for the terminal send prompts of tens of thousands of tokens."""

Message = dict[str, Any]


@dataclass(slots=True)
class Exchange:
    """One request as it arrived, and its reply as it left."""

    method: str
    path: str
    headers: dict[str, str]
    sent: bytes = b""
    status: int = 0
    reply: bytes = b""

    @property
    def body(self) -> dict[str, Any]:
        """The request's JSON."""
        read: dict[str, Any] = json.loads(self.sent)
        return read

    @property
    def streams(self) -> bool:
        """Whether the client asked for a stream."""
        return self.body.get("stream") is True


@dataclass(slots=True)
class Recorded:
    """A server, and its exchanges since :meth:`forget`."""

    live: Live
    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where the server is."""
        return self.live.url

    def forget(self) -> None:
        """Begin anew."""
        self.exchanges.clear()
        self.live.engine.requests.clear()

    def posts(self, path: str) -> list[Exchange]:
        """What was posted to ``path``, the query aside; all of it must have succeeded."""
        refused = [(e.path, e.status, e.reply, e.sent) for e in self.exchanges if e.status >= 400]
        assert not refused, refused
        return [e for e in self.exchanges if (e.method, e.path) == ("POST", path)]

    def prompts(self) -> list[str]:
        """The prompts that came to the engine, in order, control tokens and all."""
        engine = self.live.engine
        return [engine.tokenizer.decode(request.token_ids) for request in engine.requests]


@contextmanager
def recorded(**settings: Any) -> Iterator[Recorded]:
    """Serve with a parser of calls until the block ends."""
    behaviour = ScriptedBehaviour(max_model_len=MAX_MODEL_LEN)
    with serve(behaviour, tool_parser="hermes", **settings) as live:
        found = Recorded(live)
        live.app.middleware_stack = _recorder(live.app.build_middleware_stack(), found.exchanges)
        yield found


def _recorder(
    inner: Callable[..., Awaitable[None]], exchanges: list[Exchange]
) -> Callable[..., Awaitable[None]]:
    async def record(scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await inner(scope, receive, send)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        exchange = Exchange(scope["method"], scope["path"], headers)
        exchanges.append(exchange)

        async def read() -> Message:
            message: Message = await receive()
            exchange.sent += message.get("body", b"")
            return message

        async def write(message: Message) -> None:
            exchange.status = message.get("status", exchange.status)
            exchange.reply += message.get("body", b"")
            await send(message)

        await inner(scope, read, write)

    return record
