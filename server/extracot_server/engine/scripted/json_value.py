"""The smallest JSON value a schema allows, which the scripted engine gives for a grammar.

Covers what structured-output requests use: types, enum, const, anyOf/oneOf/allOf, local `$ref`,
required properties, minimum sizes and formats. Not a validator; patterns are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SAMPLES = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "ann@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.org/",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
}
_MAX_DEPTH = 64
_MAX_SIZE = 200_000  # characters and values
_IMPLIED = {
    **{"items": "array", "minItems": "array"},
    **{"minimum": "number", "multipleOf": "number", "minLength": "string"},
}


class SchemaError(ValueError):
    """The schema cannot be followed (unknown reference, endless recursion, a wrong type)."""


@dataclass(slots=True)
class _Root:
    """The whole schema, and how much the value may still hold."""

    schema: Any
    left: int = _MAX_SIZE

    def spend(self, size: int) -> None:
        """Raises :class:`SchemaError` where a value would be too large to be made."""
        self.left -= size
        if self.left < 0:
            raise SchemaError("the smallest value is too large")


def minimal_instance(schema: Mapping[str, Any] | bool) -> Any:
    """A small value that satisfies ``schema``; raises :class:`SchemaError`.

    >>> minimal_instance({"type": "object", "properties": {"n": {"minimum": 3}}, "required": ["n"]})
    {'n': 3}
    """
    try:
        return _build(schema, _Root(schema), 0)
    except (AttributeError, TypeError, ValueError) as error:
        if isinstance(error, SchemaError):
            raise
        raise SchemaError(f"a keyword has a value of the wrong type: {error}") from None


def _build(schema: Any, root: _Root, depth: int) -> Any:
    root.spend(1)
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


def _first_finite(options: list[Any], root: _Root, depth: int) -> Any:
    problem: SchemaError | None = None
    for option in options:
        try:
            return _build(option, root, depth + 1)
        except SchemaError as error:
            problem = error
    raise problem or SchemaError("no option to choose from")


def _merge(schema: Mapping[str, Any], root: _Root) -> dict[str, Any]:
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


def _of_type(kind: str, schema: Mapping[str, Any], root: _Root, depth: int) -> Any:
    match kind:
        case "null":
            return None
        case "boolean":
            return False
        case "string":
            sample = _SAMPLES.get(str(schema.get("format")), "")
            root.spend(length := int(schema.get("minLength", 0)))
            return sample.ljust(length, "x")
        case "integer":
            return int(_number(kind, schema))
        case "number":
            return _number(kind, schema)
        case "array":
            return _array(schema, root, depth)
        case "object":
            return _object(schema, root, depth)
        case _:
            raise SchemaError(f"unknown type {kind!r}")


def _array(schema: Mapping[str, Any], root: _Root, depth: int) -> list[Any]:
    items = schema.get("items", True)
    listed = isinstance(items, list)  # a tuple, as draft 7 has it
    first = items if listed else schema.get("prefixItems", ())
    rest = schema.get("additionalItems", True) if listed else items
    least = int(schema.get("minItems", 0))
    fixed = [_build(item, root, depth + 1) for item in first]
    return [*fixed, *(_build(rest, root, depth + 1) for _ in range(least - len(fixed)))]


def _object(schema: Mapping[str, Any], root: _Root, depth: int) -> dict[str, Any]:
    properties = schema.get("properties", {})
    names = dict.fromkeys(schema.get("required", ()))
    least = int(schema.get("minProperties", 0))
    more = [*properties, *(f"p{number}" for number in range(least))]
    missing = [name for name in dict.fromkeys(more) if name not in names]
    names |= dict.fromkeys(missing[: max(0, least - len(names))])
    others = schema.get("additionalProperties", True)
    return {name: _build(properties.get(name, others), root, depth + 1) for name in names}


def _number(kind: str, schema: Mapping[str, Any]) -> Any:
    whole = kind == "integer" or "multipleOf" in schema
    step = schema.get("multipleOf", 1)
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if not whole and low is None and above is not None and (high or below) is not None:
        ceiling = min(bound for bound in (high, below) if bound is not None)
        return float(above + ceiling) / 2
    if low is not None:
        return -(-low // step) * step if whole else low
    if above is not None:
        return int(above // step + 1) * step if whole else int(above // 1) + 1
    if high is not None and high < 0:
        return int(high // step) * step
    if below is not None and below <= 0:
        return (-(-below // step) - 1) * step if whole else below - 1
    return 0


def _follow(reference: str, root: _Root) -> Any:
    if not reference.startswith("#"):
        raise SchemaError(f"only local references are followed, not {reference!r:.80}")
    node = root.schema
    for step in reference.lstrip("#").strip("/").split("/"):
        if step:
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, Mapping) or step not in node:
                raise SchemaError(f"reference {reference!r:.80} leads nowhere")
            node = node[step]
    return node
