"""The smallest JSON value a schema allows, which the scripted engine gives for a grammar.

Covers what structured-output requests use: types, enum, const, anyOf/oneOf/allOf, local `$ref`,
required properties and minimum sizes. Not a validator; patterns and formats are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MAX_DEPTH = 64
_IMPLIED = {
    **{"items": "array", "minItems": "array"},
    **{"minimum": "number", "multipleOf": "number", "minLength": "string"},
}


class SchemaError(ValueError):
    """The schema cannot be followed (unknown reference, endless recursion, a wrong type)."""


def minimal_instance(schema: Mapping[str, Any] | bool) -> Any:
    """A small value that satisfies ``schema``; raises :class:`SchemaError`.

    >>> minimal_instance({"type": "object", "properties": {"n": {"minimum": 3}}, "required": ["n"]})
    {'n': 3}
    """
    try:
        return _build(schema, schema, 0)
    except (AttributeError, TypeError, ValueError) as error:
        if isinstance(error, SchemaError):
            raise
        raise SchemaError(f"a keyword has a value of the wrong type: {error}") from None


def _build(schema: Any, root: Any, depth: int) -> Any:
    if schema is True or schema == {}:
        return {}
    if not isinstance(schema, Mapping):
        raise SchemaError(f"not a schema: {schema!r:.80}")
    if depth > _MAX_DEPTH:
        raise SchemaError("the schema requires endless nesting")
    if "$ref" in schema:
        return _build(_follow(schema["$ref"], root), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for word in ("anyOf", "oneOf"):
        if schema.get(word):
            return _first_finite(schema[word], root, depth)
    if schema.get("allOf"):
        return _build(_merge(schema, root), root, depth + 1)
    return _of_type(_kind(schema), schema, root, depth)


def _first_finite(options: list[Any], root: Any, depth: int) -> Any:
    problem: SchemaError | None = None
    for option in options:
        try:
            return _build(option, root, depth + 1)
        except SchemaError as error:
            problem = error
    raise problem or SchemaError("no option to choose from")


def _merge(schema: Mapping[str, Any], root: Any) -> dict[str, Any]:
    merged: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema["allOf"]:
        resolved = _follow(part["$ref"], root) if "$ref" in part else part
        for key, value in resolved.items():
            if key == "properties":
                merged[key] = {**merged.get(key, {}), **value}
            elif key == "required":
                merged[key] = [*merged.get(key, []), *value]
            else:
                merged.setdefault(key, value)
    return merged


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if kind is None:
        kind = next((kind for word, kind in _IMPLIED.items() if word in schema), "object")
    return str(kind[0] if isinstance(kind, list) else kind)


def _of_type(kind: str, schema: Mapping[str, Any], root: Any, depth: int) -> Any:
    match kind:
        case "null":
            return None
        case "boolean":
            return False
        case "string":
            return "x" * int(schema.get("minLength", 0))
        case "integer" | "number":
            return _number(kind, schema)
        case "array":
            fixed = [_build(item, root, depth + 1) for item in schema.get("prefixItems", ())]
            missing = max(0, int(schema.get("minItems", 0)) - len(fixed))
            more = (_build(schema.get("items", True), root, depth + 1) for _ in range(missing))
            return [*fixed, *more]
        case "object":
            properties = schema.get("properties", {})
            return {
                name: _build(properties.get(name, True), root, depth + 1)
                for name in schema.get("required", ())
            }
        case _:
            raise SchemaError(f"unknown type {kind!r}")


def _number(kind: str, schema: Mapping[str, Any]) -> int | float:
    whole = kind == "integer"
    if "minimum" in schema:
        low = schema["minimum"]
        return int(-(-low // 1)) if whole else low
    if "exclusiveMinimum" in schema:
        return int(schema["exclusiveMinimum"] // 1) + 1
    if "maximum" in schema and schema["maximum"] < 0:
        return int(schema["maximum"] // 1)
    return -1 if "exclusiveMaximum" in schema and schema["exclusiveMaximum"] <= 0 else 0


def _follow(reference: str, root: Any) -> Any:
    if not reference.startswith("#"):
        raise SchemaError(f"only local references are followed, not {reference!r:.80}")
    node = root
    for step in reference.lstrip("#").strip("/").split("/"):
        if step:
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, Mapping) or step not in node:
                raise SchemaError(f"reference {reference!r:.80} leads nowhere")
            node = node[step]
    return node
