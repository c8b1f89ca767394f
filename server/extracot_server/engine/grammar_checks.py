"""Formats refused before a token is paid for, in words that name the place and the keyword.

A grammar backend says that a schema is refused, and rarely why: it is asked about the parts until
one is left. Sizes are bounded before that, by :mod:`extracot_server.engine.schema_checks`. Which
backend it is, and how it is asked, is an engine's to say.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Any

from extracot_server.engine.base import AnswerFormat, EngineBusyError, EngineRequestError
from extracot_server.engine.json_schema import Refuses, locate, spelled
from extracot_server.engine.schema_checks import check_format, own_schemas

_KEPT = 1024
_LOOKED_AT_ONCE = 2
_ASKED_AT_ONCE = 8
_TURN_SECONDS = 30.0


@asynccontextmanager
async def _turn(slots: asyncio.Semaphore) -> AsyncIterator[None]:
    """Hold a slot; :class:`EngineBusyError` where none is free within ``_TURN_SECONDS``.

    First come, first served: an engine does not know whose a schema is, and each takes little.
    """
    try:
        async with asyncio.timeout(_TURN_SECONDS):
            await slots.acquire()
    except TimeoutError:
        raise EngineBusyError("other schemas are being looked at", retry_after=10) from None
    try:
        yield
    finally:
        slots.release()


class OwnChecks:
    """Runs a check that knows no backend in a thread: a large schema takes some tenths of a second,
    for which every stream of this process would stand still."""

    def __init__(self, check: Callable[[AnswerFormat], None]) -> None:
        self._check = check
        self._slots = asyncio.Semaphore(_LOOKED_AT_ONCE)

    async def check(self, wanted: AnswerFormat) -> None:
        """Raises what the check raises, and :class:`EngineBusyError`."""
        if wanted.kind == "json_schema":
            async with _turn(self._slots):
                await asyncio.to_thread(self._check, wanted)


class GrammarChecks:
    """Asks ``refuses`` about formats, and remembers what came of it.

    ``backend`` is the name of what refuses, for errors. Few schemas are looked at and asked about
    at once, and one that several requests bring is asked about once.
    """

    def __init__(self, refuses: Refuses, backend: Callable[[], str]) -> None:
        self._backend = backend
        self._refuses = refuses
        self._own = OwnChecks(check_format)
        self._slots = asyncio.Semaphore(_ASKED_AT_ONCE)
        self._known: dict[bytes, str | None] = {}
        self._running: dict[bytes, asyncio.Task[str | None]] = {}

    async def check(self, wanted: AnswerFormat) -> None:
        """Raise :class:`EngineRequestError` for a format that the backend cannot keep.

        :class:`EngineBusyError` where too many others are looked at: nothing is known of it then.
        """
        asked = [(field, schema, _key(field, schema)) for field, schema in own_schemas(wanted)]
        if any(key not in self._known for _, _, key in asked):
            await self._own.check(wanted)
        if wanted.parts and wanted.schema is not None:
            asked.append((wanted.field, wanted.schema, _key(wanted.field, wanted.schema)))
        for field, schema, key in asked:
            if (fault := await self._fault(field, schema, key)) is not None:
                raise EngineRequestError(fault, param=field)

    async def _fault(self, field: str, schema: Mapping[str, Any], key: bytes) -> str | None:
        """What is wrong with a schema, from memory or found out, for all that wait for it."""
        if key in self._known:
            self._known[key] = fault = self._known.pop(key)  # the last one to be forgotten
            return fault
        if (running := self._running.get(key)) is None:
            running = asyncio.create_task(self._find(field, schema))
            self._running[key] = running
            running.add_done_callback(lambda task: self._found(key, task))
        return await asyncio.shield(running)

    def _found(self, key: bytes, task: asyncio.Task[str | None]) -> None:
        del self._running[key]
        if not task.cancelled() and task.exception() is None:
            self._known[key] = task.result()
            if len(self._known) > _KEPT:
                self._known.pop(next(iter(self._known)))

    async def _asked(self, schema: Mapping[str, Any]) -> str | None:
        async with _turn(self._slots):
            return await self._refuses(schema)

    async def _find(self, field: str, schema: Mapping[str, Any]) -> str | None:
        whole = await self._asked(schema)
        if whole is None:
            return None
        steps, keyword, why = await locate(schema, self._asked)
        place, reason = spelled(field, steps), (why or whole).rstrip(".")
        backend = self._backend()
        if keyword is None:
            return f"`{place}`: the grammar backend {backend} does not take this schema: {reason}."
        return (
            f"`{place}`: `{keyword}`, as it is used here, is not supported by the grammar backend "
            f"{backend}: {reason}."
        )


def _key(field: str, schema: Mapping[str, Any]) -> bytes:
    text = f"{field} {json.dumps(schema, sort_keys=True)}"
    return blake2b(text.encode(), digest_size=16).digest()  # a schema may be of megabytes
