"""Tools of a request and calls of a reply. Plain data and one grammar.

Knows neither HTTP nor how a model writes a call; that is ``tool_calls.tool_reading``'s.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from extracot_server.engine.base import CALLS_FIELD, AnswerFormat
from extracot_server.engine.json_schema import moved, simplified
from extracot_server.engine.schema_checks import check_size

_NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of a request, in OpenAI's form, and which of them the reply has to call.

    ``choice`` is ``auto`` (the model decides), ``required`` (at least one) or ``named`` (the one
    that ``name`` names, once).
    """

    tools: tuple[Mapping[str, Any], ...]
    choice: Literal["auto", "required", "named"] = "auto"
    name: str | None = None
    parallel: bool = True
    fields: tuple[str, ...] = ()
    """Where in the request the schema of each tool stands, for errors."""
    strict: frozenset[str] = frozenset()
    """Tools of which the client says that calls are to follow the schema, for servers that read it;
    no chat template is shown it."""

    @property
    def forced(self) -> bool:
        """The reply is a call whatever the model would like."""
        return self.choice != "auto"

    def answer_format(self) -> AnswerFormat | None:
        """The grammar that makes the answer a call: of its arguments, or of a list of calls."""
        if self.choice == "named":
            part = self._part(self.name)
            return AnswerFormat("json_schema", part[1], CALLS_FIELD, (part,))
        return self.calls_format() if self.choice == "required" else None

    def calls_format(self) -> AnswerFormat:
        """The grammar of a list of calls, whatever ``choice`` is."""
        names = [str(tool["function"]["name"]) for tool in self.tools]
        calls = [self._call(name, f"#/$defs/{index}") for index, name in enumerate(names)]
        # Each tool's schema stands in a place of its own, so that what it refers to is found.
        parts = tuple(map(self._part, names))
        definitions = {
            str(index): moved(schema, f"#/$defs/{index}") for index, (_, schema) in enumerate(parts)
        }
        items = calls[0] if len(calls) == 1 else {"anyOf": calls}
        schema = {"type": "array", "minItems": 1, "items": items, "$defs": definitions}
        if not self.parallel:
            schema["maxItems"] = 1
        return AnswerFormat("json_schema", schema, CALLS_FIELD, parts)

    def _call(self, name: str, reference: str) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {
                "name": {"type": "string", "enum": [name]},
                "arguments": {"$ref": reference},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }

    def _part(self, name: str | None) -> tuple[str, Mapping[str, Any]]:
        """A tool's schema, with its field."""
        at, tool = next(p for p in enumerate(self.tools) if p[1]["function"]["name"] == name)
        field = self.fields[at] if self.fields else f"{CALLS_FIELD}[{at}].function.parameters"
        parameters = tool["function"].get("parameters") or _NOTHING
        check_size(parameters, field)
        return field, simplified(parameters)


@dataclass(frozen=True, slots=True)
class CallPart:
    """Something new of call number ``call``: it begins (``id`` and ``name`` are set), or goes on.

    The ``arguments`` of all parts of a call, joined, are its JSON text.
    """

    call: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


class CallReader(Protocol):
    """Reads an answer as it comes: text (``str``) and parts of calls."""

    def feed(self, text: str, token_ids: Sequence[int]) -> list[str | CallPart]:
        """Add answer text and the ids that begin in it; return what became certain."""

    def finish(self) -> list[str | CallPart]:
        """The answer is over: what was held back."""


CallReaderFactory = Callable[[ToolUse], CallReader]


def new_call_id() -> str:
    """An id for a call, as OpenAI's look."""
    return f"call_{uuid.uuid4().hex[:24]}"
