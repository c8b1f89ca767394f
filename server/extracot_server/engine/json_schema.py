"""JSON schemas as trees: which keywords hold schemas, where a part stands, what it refers to.

Pure, and no validator: what a schema may be is :mod:`extracot_server.engine.schema_checks`'s.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

Steps = tuple[str | int, ...]
Refuses = Callable[[Mapping[str, Any]], Awaitable[str | None]]
"""Why a grammar backend refuses a schema; ``None``: it takes it."""

OF_NAMES = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
ALTERNATIVES = ("anyOf", "oneOf", "allOf")
SINGLE = (
    *("additionalProperties", "additionalItems", "contains", "propertyNames", "not"),
    *("if", "then", "else", "unevaluatedProperties", "unevaluatedItems", "contentSchema"),
)
_VALUES = ("const", "default", "enum", "examples", "example")
_DEFINITIONS = ("$defs", "definitions")
_APPLIED = frozenset({*ALTERNATIVES, "$ref", "if", "then", "else", "dependentSchemas"})
_ANY_TEXT = frozenset({"binary", "password", "path", "file-path", "directory-path"})
"""Formats that say what a text is for and nothing about its characters."""
_TRIES = 100
_PLAIN_NAME = re.compile(r"[A-Za-z_$][\w$-]*")


class ReferenceFault(ValueError):
    """A ``$ref`` that leads nowhere, or out of the schema."""


def children(schema: Any) -> Iterator[tuple[Steps, Any]]:
    """The schemas right inside of one, with the steps that lead to them."""
    if not isinstance(schema, Mapping):
        return
    for word, value in schema.items():
        if word in OF_NAMES and isinstance(value, Mapping):
            yield from (((word, name), part) for name, part in value.items())
        elif word in SINGLE or (word == "items" and not isinstance(value, list)):
            yield (word,), value
        elif word in (*ALTERNATIVES, "prefixItems", "items") and isinstance(value, list):
            yield from (((word, index), part) for index, part in enumerate(value))


def walk(schema: Any) -> Iterator[tuple[Steps, Any]]:
    """A schema, all inside of it and all it refers to, the outer ones first; each once."""
    left: list[tuple[Steps, Any]] = [((), schema)]
    seen: set[int] = set()
    while left:
        steps, node = left.pop()
        if isinstance(node, Mapping):
            if id(node) in seen:
                continue
            seen.add(id(node))
            if "$ref" in node:
                with contextlib.suppress(ReferenceFault):
                    left.append(follow(node["$ref"], schema))
        yield steps, node
        left += [((*steps, *more), part) for more, part in children(node)]


def spelled(field: str, steps: Steps) -> str:
    """A place in a schema as errors name it.

    >>> spelled("schema", ("properties", "a b", "anyOf", 0))
    'schema.properties["a b"].anyOf[0]'
    """
    out = field
    for step in steps:
        if isinstance(step, int):
            out += f"[{step}]"
        else:
            out += f".{step}" if _PLAIN_NAME.fullmatch(step) else f'["{step:.60}"]'
    return out


def follow(reference: Any, root: Any) -> tuple[Steps, Any]:
    """Where a ``$ref`` leads, and what stands there; raises :class:`ReferenceFault`."""
    if not isinstance(reference, str):
        raise ReferenceFault("must be a string")
    if reference != "#" and not reference.startswith("#/"):
        what = "leads out of the schema; only `#` and `#/…` are followed"
        raise ReferenceFault(f"{reference!r:.80} {what}")
    steps: list[str | int] = []
    node = root
    for part in reference.split("/")[1:]:
        step = part.replace("~1", "/").replace("~0", "~").replace("%25", "%")
        if isinstance(node, Mapping) and step in node:
            node = node[step]
            steps.append(step)
        elif isinstance(node, list) and step.isascii() and step.isdigit() and int(step) < len(node):
            node = node[int(step)]
            steps.append(int(step))
        else:
            raise ReferenceFault(f"{reference!r:.80} leads nowhere")
    return tuple(steps), node


def rebuilt(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """A copy in which every schema has been changed, the inner ones first."""
    if not isinstance(schema, Mapping):
        return schema
    out = dict(schema)
    for word, value in schema.items():
        if word in OF_NAMES and isinstance(value, Mapping):
            out[word] = {name: rebuilt(part, change) for name, part in value.items()}
        elif word in (*ALTERNATIVES, "prefixItems", "items") and isinstance(value, list):
            out[word] = [rebuilt(part, change) for part in value]
        elif isinstance(value, Mapping) and word not in _VALUES:  # such as OpenAPI's components
            out[word] = rebuilt(value, change)
    return change(out)


def moved(schema: Any, pointer: str) -> Any:
    """A whole schema as it has to read where it stands at ``pointer`` in another one.

    >>> moved({"items": {"$ref": "#"}}, "#/$defs/a")
    {'items': {'$ref': '#/$defs/a'}}
    """

    def change(node: dict[str, Any]) -> dict[str, Any]:
        reference = node.get("$ref")
        if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
            node["$ref"] = pointer + reference[1:]
        for word in ("$id", "$schema"):  # of a part they would change what references mean
            node.pop(word, None)
        return node

    return rebuilt(schema, change)


def simplified(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema without keywords that say nothing, or in words that every backend knows.

    >>> simplified({"type": "array", "uniqueItems": False})
    {'type': 'array'}
    >>> simplified({"propertyNames": {"enum": ["a"]}, "additionalProperties": {"type": "null"}})
    {'additionalProperties': False, 'properties': {'a': {'type': 'null'}}}
    """
    out: dict[str, Any] = rebuilt(schema, _simplify)
    return out


def _simplify(node: dict[str, Any]) -> dict[str, Any]:
    if node.get("uniqueItems") is False:
        del node["uniqueItems"]
    if isinstance(node.get("format"), str) and node["format"] in _ANY_TEXT:
        del node["format"]
    names = node.get("propertyNames")
    if names is True or names == {} or names == {"type": "string"}:
        del node["propertyNames"]
    elif isinstance(names, Mapping) and not _APPLIED & node.keys():
        listed = [names["const"]] if "const" in names else names.get("enum")
        plain = set(names) <= {"const", "enum", "type", "title", "description"}
        alone = not {"properties", "patternProperties", "unevaluatedProperties"} & node.keys()
        if plain and alone and isinstance(listed, list) and _all_texts(listed):
            value = node.get("additionalProperties", True)
            del node["propertyNames"]
            node |= {"additionalProperties": False, "properties": dict.fromkeys(listed, value)}
    closed = node.get("unevaluatedProperties")
    alone = not {"additionalProperties", *_APPLIED} & node.keys()
    if isinstance(closed, bool) and alone:
        node["additionalProperties"] = node.pop("unevaluatedProperties")
    return node


def _all_texts(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, str) for value in values)


async def locate(
    schema: Mapping[str, Any], refuses: Refuses
) -> tuple[Steps, str | None, str | None]:
    """The innermost part that is refused by itself: where, which keyword's fault it is, and why.

    The keyword is one without which that part is taken, ``None`` where there is no such one.
    """
    tries = 0

    async def asked(part: Mapping[str, Any]) -> str | None:
        nonlocal tries
        tries += 1
        return await refuses(_alone(part, schema)) if tries <= _TRIES else None

    steps: Steps = ()
    node: Mapping[str, Any] = schema
    why: str | None = None
    seen = {"#"}
    while True:
        reference = node.get("$ref")
        if isinstance(reference, str) and reference not in seen:
            seen.add(reference)
            where, target = follow(reference, schema)
            if isinstance(target, Mapping) and (found := await asked(target)) is not None:
                steps, node, why = where, target, found
                continue
        for more, part in children(node):
            if more[0] in _DEFINITIONS or not isinstance(part, Mapping) or _known(part, seen):
                continue
            if (found := await asked(part)) is not None:
                steps, node, why = (*steps, *more), part, found
                break
        else:
            break
    words = [word for word in node if word not in ("type", *_DEFINITIONS)]
    for word in words:
        if await asked({name: value for name, value in node.items() if name != word}) is None:
            return steps, (word if tries <= _TRIES else None), why
    # A part that refers back to this one has the same fault: those come last.
    for word in sorted(words, key=lambda word: "$ref" in str(node[word])):
        if await asked({name: node[name] for name in ("type", word) if name in node}) is not None:
            return steps, word, why
    return steps, None, why


def _known(part: Mapping[str, Any], seen: set[str]) -> bool:
    reference = part.get("$ref")
    return isinstance(reference, str) and reference in seen


def _alone(part: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """A part as a schema of its own, with what it refers to and nothing else of the whole."""
    names: dict[str, str] = {}
    left: list[str] = []

    def change(node: dict[str, Any]) -> dict[str, Any]:
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            if reference not in names:
                names[reference] = str(len(names))
                left.append(reference)
            node["$ref"] = f"#/$defs/{names[reference]}"
        return {word: value for word, value in node.items() if word not in ("$id", "$schema")}

    def own(schema: Any) -> Any:
        if isinstance(schema, Mapping):
            schema = {word: value for word, value in schema.items() if word not in _DEFINITIONS}
        return rebuilt(schema, change)

    alone: dict[str, Any] = own(part)
    definitions: dict[str, Any] = {}
    while left:
        reference = left.pop()
        definitions[names[reference]] = own(follow(reference, root)[1])
    return {**alone, "$defs": definitions} if definitions else alone
