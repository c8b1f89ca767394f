"""Formats refused before a token is paid for, in words that name the place and the keyword.

A grammar backend says that a schema is refused, and rarely why: it is asked about the parts until
one is left. Sizes are bounded before that, by :mod:`extracot_server.engine.schema_checks`. Which
backend it is, and how it is asked, is an engine's to say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

from extracot_server.engine.base import AnswerFormat, EngineRequestError
from extracot_server.engine.json_schema import Refuses, locate, spelled
from extracot_server.engine.schema_checks import check_format, own_schemas

_KEPT = 256


class GrammarChecks:
    """Asks ``refuses`` about formats, and remembers what came of it.

    ``backend`` is the name of what refuses, for errors.
    """

    def __init__(self, refuses: Refuses, backend: Callable[[], str]) -> None:
        self._refuses = refuses
        self._backend = backend
        self._known: dict[bytes, str | None] = {}

    async def check(self, wanted: AnswerFormat) -> None:
        """Raise :class:`EngineRequestError` for a format that the backend cannot keep."""
        check_format(wanted)
        for field, schema in own_schemas(wanted):
            await self._check(field, schema)
        if wanted.parts and wanted.schema is not None:
            await self._check(wanted.field, wanted.schema)

    async def _check(self, field: str, schema: Mapping[str, Any]) -> None:
        text = f"{field} {json.dumps(schema, sort_keys=True)}"
        key = blake2b(text.encode(), digest_size=16).digest()  # a schema may be of megabytes
        if key not in self._known:
            fault = await self._fault(field, schema)
            self._known[key] = fault
            if len(self._known) > _KEPT:
                self._known.pop(next(iter(self._known)))
        else:
            fault = self._known[key]
        if fault is not None:
            raise EngineRequestError(fault, param=field)

    async def _fault(self, field: str, schema: Mapping[str, Any]) -> str | None:
        whole = await self._refuses(schema)
        if whole is None:
            return None
        steps, keyword, why = await locate(schema, self._refuses)
        place, reason = spelled(field, steps), (why or whole).rstrip(".")
        backend = self._backend()
        if keyword is None:
            return f"`{place}`: the grammar backend {backend} does not take this schema: {reason}."
        return (
            f"`{place}`: `{keyword}`, as it is used here, is not supported by the grammar backend "
            f"{backend}: {reason}."
        )
