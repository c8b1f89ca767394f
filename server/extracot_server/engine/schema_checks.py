"""What is wrong with a JSON schema by itself, whatever grammar backend it is for.

Every engine asks this before a token is paid for: shapes, references, rules that no value can
keep, and sizes that a compiler should never see. What a certain backend lacks it says itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from re import _parser as python_patterns  # type: ignore[attr-defined]
from typing import Any

from extracot_server.engine.base import AnswerFormat, EngineRequestError
from extracot_server.engine.json_schema import (
    ALTERNATIVES,
    OF_NAMES,
    SINGLE,
    ReferenceFault,
    Steps,
    follow,
    spelled,
    walk,
)
from extracot_server.engine.schema_ends import without_end

MAX_DEPTH = 48  # vLLM's own limit is 64, and a call's grammar adds some of its own
_MAX_SCHEMAS = 4000
_MAX_PROPERTIES = 1000
_MAX_ENUM = 2000
_MAX_TEXT = 200_000
_MAX_VALUES = 20_000
_TOGETHER = 5
"""So many times that much may all schemas of a request be together."""
_MAX_COUNT = 2**31 - 1
_MAX_ITEMS = 5000
_MAX_PATTERN = 4000
_MAX_READ = 20_000
"""Characters of patterns that are looked into in one schema; what is beyond, the backend judges."""
_LARGEST = 2**63
_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
_FOREIGN = ("$dynamicRef", "$recursiveRef", "x-guidance")
"""Keywords that change what a grammar is, and that no client needs."""
# Ways to write a pattern that Python's `re` does not know, or reads otherwise than other engines:
# classes, groups with flags (and without), sets of sets.
_NOT_PYTHON = re.compile(
    r"\\[pPuxcdwsk]|\(\?<|\(\?[a-zA-Z^-]*[:)]|\[\^?\[|&&|--|~~|\|\|",
)

Fault = tuple[Steps, str]


def check_format(wanted: AnswerFormat) -> None:
    """Raise :class:`EngineRequestError`, which names the place, for a schema that is none.

    Of the largest it takes some tenths of a second; engines call it in a thread.
    """
    schemas = own_schemas(wanted)
    if (what := _bulk([schema for _, schema in schemas], _TOGETHER, MAX_DEPTH + 1)) is not None:
        what = f"the schemas together: {what}" if len(schemas) > 1 else what
        raise EngineRequestError(f"`{wanted.field}`: {what}", param=wanted.field)
    for field, schema in schemas:
        fault = next(_faults(schema), None)
        if fault is not None:
            raise EngineRequestError(f"`{spelled(field, fault[0])}`: {fault[1]}", param=field)


def own_schemas(wanted: AnswerFormat) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """The client's own schemas in a format, each with its field."""
    if wanted.kind != "json_schema":
        return ()
    return wanted.parts or ((wanted.field, wanted.schema or {}),)


def check_size(schema: Any, field: str) -> None:
    """Raise :class:`EngineRequestError` for a schema that is too large to look at."""
    if (what := _bulk(schema)) is not None:
        raise EngineRequestError(f"`{field}`: {what}", param=field)


def _faults(schema: Any) -> Iterator[Fault]:
    yield from _size_faults(schema)
    sound: set[Steps] = set()
    read = 0
    for steps, node in walk(schema):
        if isinstance(node, bool):
            continue
        if not isinstance(node, Mapping):
            yield steps, "must be a schema: an object or a boolean."
            return
        for word, value in node.items():
            if (what := _word_fault(word, value)) is not None:
                yield (*steps, word), what
            for pattern in _patterns_of(word, value):
                read += len(pattern)
                if read <= _MAX_READ and (what := _unreadable(pattern)) is not None:
                    yield (*steps, word), what if word == "pattern" else f"{pattern!r:.60} {what}"
        if "$ref" in node:
            yield from _reference_faults((*steps, "$ref"), node["$ref"], schema, sound)
        yield from _contradictions(steps, node)
    endless = without_end(schema)
    if endless is not None:
        yield (
            endless,
            "no value keeps to this part of the schema: it refers to itself without an end.",
        )


def _bulk(schema: Any, times: int = 1, deepest: int = MAX_DEPTH) -> str | None:
    """Whether a value is too large for ``times`` schemas, whatever it means; stops where it is."""
    most_text, most_values = times * _MAX_TEXT, times * _MAX_VALUES
    depth, level, text, values = 0, [schema], 0, 0
    while level:
        depth, values = depth + 1, values + len(level)
        if depth > deepest:
            return f"is nested too deeply: at most {MAX_DEPTH} levels of objects and lists."
        text += sum(len(v) for v in level if isinstance(v, str))
        text += sum(len(k) for v in level if isinstance(v, Mapping) for k in v)
        if text > most_text or values > most_values:
            most = f"{most_values} values and {most_text} characters of names and texts"
            return f"is too large: at most {most}."
        level = [
            part
            for value in level
            if isinstance(value, Mapping | list)
            for part in (value.values() if isinstance(value, Mapping) else value)
        ]
    return None


def _size_faults(schema: Any) -> Iterator[Fault]:
    if (what := _bulk(schema)) is not None:
        yield (), what
        return
    enumerated = 0
    for schemas, (steps, node) in enumerate(walk(schema), start=1):
        if isinstance(node, Mapping):
            values, properties = node.get("enum"), node.get("properties")
            enumerated += len(values) if isinstance(values, list) else 0
            if isinstance(properties, Mapping) and len(properties) > _MAX_PROPERTIES:
                yield (*steps, "properties"), f"has more than {_MAX_PROPERTIES} properties."
        if schemas > _MAX_SCHEMAS or enumerated > _MAX_ENUM:
            what = f"at most {_MAX_SCHEMAS} schemas and {_MAX_ENUM} values of `enum`."
            yield (), f"is too large: {what}"
            return


def _word_fault(word: str, value: Any) -> str | None:
    """What is wrong with the value of a keyword, seen by itself."""
    check = _SHAPES.get(word)
    if word in _FOREIGN:
        return "this keyword is not supported."
    return check(value) if check is not None else None


def _type(value: Any) -> str | None:
    kinds = value if isinstance(value, list) else [value]
    if 0 < len(kinds) <= len(_TYPES) and all(
        isinstance(kind, str) and kind in _TYPES for kind in kinds
    ):
        return None
    return f"is {str(value)[:60]!r}; a type is one of {', '.join(_TYPES)}, or a list of them."


def _count(most: int) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value
        if whole and 0 <= value <= most and value == int(value):
            return None
        return f"must be a whole number from 0 to {most}."

    return check


def _number(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "must be a number."
    return None if abs(value) <= _LARGEST else "is out of range: numbers of 64 bits."


def _positive(value: Any) -> str | None:
    return _number(value) or (None if value > 0 else "must be above 0.")


def _texts(value: Any) -> str | None:
    texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return None if texts else "must be a list of strings."


def _some(value: Any) -> str | None:
    return None if isinstance(value, list) and value else "must be a list that is not empty."


def _map(value: Any) -> str | None:
    return None if isinstance(value, Mapping) else "must be an object of schemas."


def _items(value: Any) -> str | None:
    return None if isinstance(value, Mapping | bool | list) else "must be a schema."


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else "must be a string."


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false."


def _pattern(value: Any) -> str | None:
    if not isinstance(value, str):
        return "must be a string."
    if "\0" in value or len(value) > _MAX_PATTERN:
        return f"must have at most {_MAX_PATTERN} characters and no NUL."
    return None


def _patterns(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return "must be an object of schemas."
    return next((f"{name!r:.60} {what}" for name in value if (what := _pattern(name))), None)


def _patterns_of(word: str, value: Any) -> Iterable[str]:
    """The patterns that a keyword holds, whose value is sound."""
    if word == "pattern":
        return (value,)
    return value if word == "patternProperties" else ()


def _unreadable(pattern: str) -> str | None:
    """Why a pattern is none. It is parsed and never compiled: a range of characters, or a letter in
    either case, may stand for thousands, which takes a compiler seconds."""
    if _NOT_PYTHON.search(pattern):
        return None  # only the backend knows
    try:
        python_patterns.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"is no regular expression: {error}."
    return None


_SHAPES: Mapping[str, Callable[[Any], str | None]] = {
    "type": _type,
    "enum": _some,
    "required": _texts,
    "pattern": _pattern,
    "format": _text,
    "uniqueItems": _flag,
    "multipleOf": _positive,
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _number),
    **dict.fromkeys(("minLength", "maxLength"), _count(_MAX_COUNT)),
    **dict.fromkeys(("minItems", "maxItems", "minContains", "maxContains"), _count(_MAX_ITEMS)),
    **dict.fromkeys(("minProperties", "maxProperties"), _count(_MAX_PROPERTIES)),
    **dict.fromkeys(OF_NAMES, _map),
    "patternProperties": _patterns,
    **dict.fromkeys((*ALTERNATIVES, "prefixItems"), _some),
    **dict.fromkeys((*SINGLE, "items"), _items),
}


def _reference_faults(
    steps: Steps, reference: Any, root: Any, sound: set[Steps]
) -> Iterator[Fault]:
    """A reference that leads nowhere, or by references alone back to itself.

    ``sound`` are places that are known to lead to a schema; more are added.
    """
    seen: set[Steps] = set()
    node: Any = {"$ref": reference}
    while isinstance(node, Mapping) and "$ref" in node:
        try:
            where, node = follow(node["$ref"], root)
        except ReferenceFault as fault:
            yield steps, f"{fault}."
            return
        if where in seen:
            yield steps, "this reference leads to itself, so that it says nothing."
            return
        if where in sound:
            break
        seen.add(where)
    if not isinstance(node, Mapping | bool):
        yield steps, f"{reference!r:.80} leads to what is no schema."
        return
    sound |= seen


_ORDERED = (
    ("minimum", "maximum"),
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
)


def _contradictions(steps: Steps, node: Mapping[str, Any]) -> Iterator[Fault]:
    """Rules beside each other that no value can keep together."""
    for low, high in _ORDERED:
        if low in node and high in node and node[low] > node[high]:
            yield (*steps, low), f"is above `{high}`, so that no value keeps to both."
            return
    for low, high in product(("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if low in node and high in node and _none_between(node, low, high):
            yield (*steps, low), f"leaves no number up to `{high}`, so that no value keeps to both."
            return
    listed = node.get("enum", [node["const"]] if "const" in node else None)
    kinds = node.get("type")
    if isinstance(listed, list) and kinds is not None:
        allowed = kinds if isinstance(kinds, list) else [kinds]
        if not any(_is_of(value, kind) for value in listed for kind in allowed):
            word = "enum" if "enum" in node else "const"
            yield (*steps, word), "has no value of the schema's own `type`."


def _none_between(node: Mapping[str, Any], low: str, high: str) -> bool:
    """Whether there is no number between two bounds, or no whole one where those are wanted."""
    least, most = node[low], node[high]
    open_low, open_high = low != "minimum", high != "maximum"
    if node.get("type") == "integer":
        least = math.floor(least) + 1 if open_low else math.ceil(least)
        most = math.ceil(most) - 1 if open_high else math.floor(most)
        open_low = open_high = False
    return bool(least > most or (least == most and (open_low or open_high)))


def _is_of(value: Any, kind: Any) -> bool:
    match value:
        case None:
            return bool(kind == "null")
        case bool():
            return bool(kind == "boolean")
        case int() | float():
            return bool(kind == "number" or (kind == "integer" and value % 1 == 0))
        case str():
            return bool(kind == "string")
        case list():
            return bool(kind == "array")
    return bool(kind == "object")
