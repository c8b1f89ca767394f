"""The smallest instance of a schema."""

from __future__ import annotations

from typing import Any

import pytest

from extracot_server.engine.scripted.json_value import SchemaError, minimal_instance

NODE = {"$ref": "#/$defs/node"}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "object"}, {}),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, {}),
        (
            {"properties": {"a": {"type": "string", "minLength": 2}, "b": {}}, "required": ["a"]},
            {"a": "xx"},
        ),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [False, False]),
        ({"prefixItems": [{"const": 1}], "type": "array"}, [1]),
        ({"type": ["null", "string"]}, None),
        ({"enum": ["red", "blue"]}, "red"),
        ({"const": {"x": 1}}, {"x": 1}),
        ({"type": "integer", "minimum": 2.5}, 3),
        ({"type": "number", "minimum": 2.5}, 2.5),
        ({"type": "integer", "exclusiveMinimum": 2}, 3),
        ({"type": "integer", "maximum": -4}, -4),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, 0),
        ({"allOf": [{"required": ["a"]}, {"properties": {"a": {"const": 1}}}]}, {"a": 1}),
        ({"$defs": {"a/b": {"const": 5}}, "$ref": "#/$defs/a~1b"}, 5),
        (
            {
                "$defs": {
                    "node": {
                        "type": "object",
                        "properties": {"next": {"anyOf": [NODE, {"type": "null"}]}},
                    }
                },
                **NODE,
            },
            {},
        ),
    ],
)
def test_minimal_instance(schema: dict[str, Any], expected: Any) -> None:
    assert minimal_instance(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "colour"},
        {"$ref": "#/nowhere"},
        {"$ref": "https://example.org/schema"},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "string", "minLength": 10**9},
        {"type": "array", "minItems": 5000, "items": {"type": "array", "minItems": 5000}},
    ],
)
def test_impossible_schemas(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        minimal_instance(schema)
