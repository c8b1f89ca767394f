"""Reads stops, tools and grammars of a request, which every API's body has under some name.

Errors name the field by the API's own name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from extracot_server.api.body import Body
from extracot_server.budget.values import shown
from extracot_server.engine.base import AnswerFormat
from extracot_server.engine.json_schema import simplified
from extracot_server.engine.schema_checks import check_size
from extracot_server.errors import InvalidRequestError
from extracot_server.tool_calls.tools import ToolUse

ToolMode = Literal["auto", "none", "required"]
"""What a reply may do with tools, by OpenAI's names."""
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
_MAX_TOOLS = 256


class FunctionDefinition(Body):
    """A function that the model may call."""

    name: str = Field(description="1 to 128 of a-z, A-Z, 0-9, `_`, `-` and `.`")
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="JSON schema of its arguments")
    strict: bool | None = Field(None, description="accepted; forced calls always follow it")


def read_stops(stops: Sequence[str] | None, field: str) -> tuple[str, ...]:
    """Stop strings of a request; :class:`InvalidRequestError` names their ``field``."""
    if len(stops or ()) > 16:
        raise InvalidRequestError.of(field, "takes at most 16 strings.")
    if any(not item or len(item) > 1024 for item in stops or ()):
        raise InvalidRequestError.of(field, "strings must have 1 to 1024 characters.")
    return tuple(stops or ())


def json_schema_format(
    schema: Any,
    field: str,
    *,
    name: Any = None,
    description: Any = None,
    strict: Any = None,
) -> AnswerFormat:
    """The grammar of a JSON schema that stands in ``field``.

    What else the client says of it is for servers elsewhere; here every schema holds.
    """
    if not isinstance(schema, dict):
        raise InvalidRequestError.of(field, "must be a JSON schema object.")
    check_size(schema, field)
    return AnswerFormat(
        "json_schema",
        simplified(schema),
        field,
        name=name if isinstance(name, str) and name else None,
        description=description if isinstance(description, str) else None,
        strict=strict if isinstance(strict, bool) else None,
    )


def check_no_schema(given: Mapping[str, Any], field: str) -> None:
    """Raise :class:`InvalidRequestError` for a schema in a format of another type.

    Some servers take one there (`{"type": "json_object", "schema": …}`); nothing would hold to it.
    """
    for name in ("schema", "json_schema"):
        if given.get(name) is not None:
            what = f"goes with the type json_schema only; set `{field}.type` to it."
            raise InvalidRequestError.of(f"{field}.{name}", what)


def read_tools(
    functions: Sequence[tuple[str, FunctionDefinition]],
    choice: ToolMode | Literal["named"] | None,
    name: str | None = None,
    *,
    parallel: bool | None,
    excluded: Mapping[str, bool],
    parameters: str = "parameters",
) -> ToolUse | None:
    """What the reply may or must call; ``None`` where nothing is offered or may be called.

    ``functions`` come with their fields; ``name`` goes with the choice ``named``. ``excluded`` are
    fields that do not go with tools, and whether they are there; ``parameters`` is the API's name
    for a tool's schema. Raises
    :class:`InvalidRequestError` for a choice among tools that are not there.
    """
    if not functions:
        if choice not in (None, "none"):
            raise InvalidRequestError.of("tool_choice", "needs `tools`.")
        return None
    definitions = _definitions(functions)
    if name is not None and name not in {d["function"]["name"] for d in definitions}:
        what = f"names {shown(name)}, which is none of `tools`."
        raise InvalidRequestError.of("tool_choice", what)
    if choice == "none":
        return None
    for field, given in excluded.items():
        if given:
            what = 'cannot be combined with `tools`, unless `tool_choice` is "none".'
            raise InvalidRequestError.of(field, what)
    fields = tuple(f"{where}.{parameters}" for where, _ in functions)
    strict = frozenset(function.name for _, function in functions if function.strict)
    return ToolUse(definitions, choice or "auto", name, parallel is not False, fields, strict)


def _definitions(functions: Sequence[tuple[str, FunctionDefinition]]) -> tuple[dict[str, Any], ...]:
    """OpenAI's form of them, as templates take it."""
    if len(functions) > _MAX_TOOLS:
        raise InvalidRequestError.of("tools", f"takes at most {_MAX_TOOLS}.")
    found: dict[str, dict[str, Any]] = {}
    for where, function in functions:
        if not _NAME.fullmatch(function.name):
            what = "must be 1 to 128 of a-z, A-Z, 0-9, `_`, `-` and `.`."
            raise InvalidRequestError.of(f"{where}.name", what)
        if function.name in found:
            message = f"Two `tools` are named {function.name}."
            raise InvalidRequestError(message, param=f"{where}.name")
        told = {"name", "description", "parameters"}
        definition = function.model_dump(include=told, exclude_none=True)
        found[function.name] = {"type": "function", "function": definition}
    return tuple(found.values())
