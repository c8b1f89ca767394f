"""What the scripted engine refuses of a format: what vLLM's own default, guidance, would.

So that a trial without a model meets the same limits. A test compares the lists with llguidance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from extracot_server.engine.base import AnswerFormat, EngineRequestError
from extracot_server.engine.json_schema import Steps, spelled, walk
from extracot_server.engine.schema_checks import check_format, own_schemas
from extracot_server.engine.scripted.json_value import SchemaError, minimal_instance

LACKING = frozenset(
    (
        *("uniqueItems", "contains", "minContains", "maxContains", "not", "if", "then", "else"),
        *("dependentRequired", "dependentSchemas", "dependencies", "propertyNames"),
        *("unevaluatedItems", "unevaluatedProperties", "$dynamicAnchor", "$recursiveAnchor"),
    )
)
"""Keywords of JSON Schema that guidance does not have."""
FORMATS = frozenset(
    (
        *("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "unknown"),
        *("uri", "uuid"),
    )
)
"""All formats that guidance has."""
_LOOKING_AROUND = re.compile(r"\(\?<?[=!]|\\[1-9]")


def check_scripted(wanted: AnswerFormat) -> None:
    """Raise :class:`EngineRequestError`, which names the place, for a format without a script."""
    check_format(wanted)
    for field, schema in own_schemas(wanted):
        for steps, what in _lacking(schema):
            message = f"`{spelled(field, steps)}`: {what} is not supported by this engine's grammar"
            raise EngineRequestError(f"{message} (guidance's).", param=field)
        _instance(schema, field)


def value_of(wanted: AnswerFormat) -> Any:
    """A value in the format's schema; raises :class:`EngineRequestError` where there is none."""
    return _instance(wanted.schema or {}, wanted.field)


def _instance(schema: Mapping[str, Any], field: str) -> Any:
    try:
        return minimal_instance(schema)
    except SchemaError as error:
        raise EngineRequestError(f"`{field}`: invalid JSON schema: {error}", param=field) from None


def _lacking(schema: Any) -> Iterator[tuple[Steps, str]]:
    for steps, node in walk(schema):
        if not isinstance(node, Mapping):
            continue
        for word in node:
            if word in LACKING:
                yield steps, f"`{word}`"
        kinds = node.get("type", "string")
        if "format" in node and "string" in kinds and node["format"] not in FORMATS:
            yield steps, f"`format` {node['format']!r:.60}"
        if _LOOKING_AROUND.search(node.get("pattern", "")):
            yield steps, "`pattern` with look-around or back-references"
