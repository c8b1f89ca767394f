"""JSON schemas before a token is paid for: what is refused, where, and what is handed over."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import llguidance
import pytest
from jsonschema.validators import validator_for

from extracot_server.engine import schema_checks, schema_ends
from extracot_server.engine.base import AnswerFormat, EngineRequestError
from extracot_server.engine.grammar_checks import GrammarChecks
from extracot_server.engine.json_schema import (
    ReferenceFault,
    follow,
    locate,
    moved,
    simplified,
    spelled,
    walk,
)
from extracot_server.engine.schema_checks import check_format
from extracot_server.engine.scripted.grammar import FORMATS, LACKING, check_scripted, value_of
from extracot_server.tool_calls.tools import ToolUse

ORDINARY: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "schemas.json").read_text(encoding="utf-8")
)
pytestmark = pytest.mark.anyio
POINT = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def of(schema: Any) -> AnswerFormat:
    return AnswerFormat("json_schema", schema, "text.format.schema")


BAD: dict[str, tuple[Any, str]] = {
    "itself": ({"$ref": "#"}, "$ref"),
    "two in a circle": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        "$ref",
    ),
    "itself, in allOf": ({"allOf": [{"$ref": "#"}]}, "allOf[0]"),
    "itself, as all alternatives": ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, "anyOf[0]"),
    "itself, required": (
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        "properties.a",
    ),
    "itself, at least once": ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "items"),
    "itself, required and by no name": (
        {"type": "object", "additionalProperties": {"$ref": "#"}, "required": ["a"]},
        "additionalProperties",
    ),
    "itself, as one property at least": (
        {"type": "object", "additionalProperties": {"$ref": "#"}, "minProperties": 1},
        "additionalProperties",
    ),
    "itself, by the pattern of a name": (
        {"type": "object", "patternProperties": {"^a": {"$ref": "#"}}, "required": ["a"]},
        'patternProperties["^a"]',
    ),
    "itself, in a part that may be left out": (
        {
            "properties": {"a": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}},
        },
        "properties.a",
    ),
    "nowhere": ({"$ref": "#/$defs/none"}, "$ref"),
    "elsewhere": ({"$ref": "https://example.org/schema"}, "$ref"),
    "a file": ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "properties.a.$ref"),
    "an anchor": ({"$ref": "#here"}, "$ref"),
    "a reference of no text": ({"$ref": 3}, "$ref"),
    "a reference to no schema": ({"$ref": "#/title", "title": "x"}, "$ref"),
    "an unknown type": ({"properties": {"age": {"type": "int"}}}, "properties.age.type"),
    "no type": ({"type": []}, "type"),
    "more types than there are": ({"type": ["string"] * 8}, "type"),
    "properties as a list": ({"properties": []}, "properties"),
    "a schema that is a text": ({"properties": {"a b": "string"}}, 'properties["a b"]'),
    "required as a text": ({"required": "a"}, "required"),
    "an empty enum": ({"enum": []}, "enum"),
    "an enum of another type": ({"type": "integer", "enum": ["a"]}, "enum"),
    "a const of another type": ({"type": "string", "const": 1}, "const"),
    "too little and too much": ({"type": "integer", "minimum": 5, "maximum": 1}, "minimum"),
    "above and below the same": ({"minimum": 1, "exclusiveMaximum": 1}, "minimum"),
    "nothing whole between": (
        {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "exclusiveMinimum",
    ),
    "nothing whole inside": ({"type": "integer", "minimum": 0.2, "maximum": 0.8}, "minimum"),
    "longer than it may be": ({"type": "string", "minLength": 5, "maxLength": 1}, "minLength"),
    "a negative length": ({"type": "string", "minLength": -1}, "minLength"),
    "half a length": ({"type": "string", "maxLength": 1.5}, "maxLength"),
    "a multiple of nothing": ({"type": "integer", "multipleOf": 0}, "multipleOf"),
    "a bound of draft 4": ({"minimum": 1, "exclusiveMinimum": True}, "exclusiveMinimum"),
    "a number too large": ({"type": "integer", "maximum": 10**40}, "maximum"),
    "a pattern that is none": ({"type": "string", "pattern": "(a"}, "pattern"),
    "a pattern with NUL": ({"type": "string", "pattern": "\0"}, "pattern"),
    "a pattern of no text": ({"type": "string", "pattern": 3}, "pattern"),
    "a name that is no pattern": ({"patternProperties": {"[": {}}}, "patternProperties"),
    "too deep": (nested(60), ""),
    "too many items": ({"type": "array", "minItems": 10**9}, "minItems"),
    "too many properties": ({"properties": {str(n): {} for n in range(2000)}}, "properties"),
    "too many values": ({"enum": list(range(5000))}, ""),
    "too much": ({"examples": [0] * 50_000}, ""),
    "too long": ({"const": "x" * 300_000}, ""),
    "a keyword that changes the grammar": ({"x-guidance": {"lenient": True}}, "x-guidance"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_no_engine_could_take_is_named(name: str) -> None:
    schema, place = BAD[name]
    with pytest.raises(EngineRequestError) as caught:
        check_format(of(schema))
    where = "text.format.schema" + (place if place[:1] in ("", "[") else f".{place}")
    assert str(caught.value).startswith(f"`{where}`: ")
    assert caught.value.param == "text.format.schema"


@pytest.mark.parametrize("size", [100, 200])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("through", ["references alone", "properties"])
def test_a_long_chain_of_references_is_looked_through_once(
    monkeypatch: pytest.MonkeyPatch, size: int, reverse: bool, through: str
) -> None:
    links: dict[str, Any] = {str(n): {"$ref": f"#/$defs/{n + 1}"} for n in range(size)}
    if through == "properties":
        links = {
            n: {"type": "object", "properties": {"next": link}, "required": ["next"]}
            for n, link in links.items()
        }
    links[str(size)] = {"type": "string"}
    names = sorted(links, key=int, reverse=reverse)
    schema = {"$ref": "#/$defs/0", "$defs": {name: links[name] for name in names}}
    looked: list[str] = []

    def counted(name: str, real: Callable[..., Any], *given: Any) -> Any:
        looked.append(name)
        return real(*given)

    for module, name in ((schema_checks, "follow"), (schema_ends, "_can_end")):
        monkeypatch.setattr(module, name, partial(counted, name, getattr(module, name)))

    check_format(of(schema))

    assert len(looked) <= 8 * size


def test_an_integer_that_no_float_holds_is_one() -> None:
    check_format(of({"type": "integer", "enum": [10**400]}))


@pytest.mark.parametrize(
    "schema",
    [
        {"minimum": 1, "maximum": 1},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": ["integer", "null"], "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "integer", "exclusiveMinimum": 0, "maximum": 1},
        {"type": "object", "additionalProperties": {"$ref": "#"}},
        {
            "type": "object",
            "properties": {"a": {"type": "string"}},
            "additionalProperties": {"$ref": "#"},
            "required": ["a"],
            "minProperties": 1,
        },
        {
            "type": "object",
            "patternProperties": {"^(a|b)+$": {"type": "string"}},
            "additionalProperties": {"$ref": "#"},
            "required": ["ab"],
        },
    ],
    ids=str,
)
def test_what_a_value_can_keep_passes(schema: Any) -> None:
    check_format(of(schema))


def test_the_scripted_engine_makes_no_value_that_is_too_large() -> None:
    row = {"type": "array", "minItems": 4000, "items": {"type": "integer"}}
    for schema in (
        {"type": "array", "minItems": 4000, "items": row},
        {"type": "string", "minLength": 10**6},
    ):
        check_format(of(schema))
        with pytest.raises(EngineRequestError, match="smallest value is too large"):
            check_scripted(of(schema))


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_schemas_pass(name: str) -> None:
    check_format(of(ORDINARY[name]))
    check_format(of(simplified(ORDINARY[name])))


@pytest.mark.parametrize("name", ORDINARY)
def test_the_scripted_engine_keeps_to_a_schema_or_names_why_not(name: str) -> None:
    schema = simplified(ORDINARY[name])
    try:
        check_scripted(of(schema))
    except EngineRequestError as error:
        assert str(error).startswith("`text.format.schema")
        assert guidance_refuses(schema)
        return
    assert not guidance_refuses(schema)
    if "pattern" not in json.dumps(schema):  # of which the script knows nothing
        kind = validator_for(ORDINARY[name])
        validator = kind(ORDINARY[name], format_checker=kind.FORMAT_CHECKER)
        validator.validate(value_of(of(schema)))


def guidance_refuses(schema: Mapping[str, Any]) -> str:
    grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema))
    return llguidance.LLMatcher.validate_grammar(grammar, None)


def test_the_lists_of_what_guidance_lacks_are_its_own() -> None:
    for word in LACKING:
        assert word in guidance_refuses({word: {}}), word
    for name in FORMATS:
        assert not guidance_refuses({"type": "string", "format": name}), name
    for name in ("binary", "regex", "uri-reference", "colour", "json-pointer", "idn-email"):
        assert "format" in guidance_refuses({"type": "string", "format": name}), name


@pytest.mark.parametrize(
    ("schema", "place", "keyword"),
    [
        (
            {"properties": {"ids": {"type": "array", "uniqueItems": True}}},
            ("properties", "ids"),
            "uniqueItems",
        ),
        (
            {"anyOf": [{"type": "null"}, {"type": "string", "format": "colour"}]},
            ("anyOf", 1),
            "format",
        ),
        (
            {"items": {"$ref": "#/$defs/p"}, "$defs": {"p": {"pattern": "(?=a)"}}},
            ("$defs", "p"),
            "pattern",
        ),
        (
            {"items": {"$ref": "#/$defs/p"}, "$defs": {"p": {"items": {"$ref": "#"}, "not": {}}}},
            ("$defs", "p"),
            "not",
        ),
    ],
)
async def test_the_part_that_a_backend_refuses_is_found(
    schema: dict[str, Any], place: tuple[str | int, ...], keyword: str
) -> None:
    async def refuses(part: Mapping[str, Any]) -> str | None:
        return guidance_refuses(part).partition("\n")[0] or None

    found = await locate(schema, refuses)
    assert found[:2] == (place, keyword) and found[2]
    checks = GrammarChecks(refuses, lambda: "guidance")
    for _ in range(2):
        with pytest.raises(EngineRequestError) as caught:
            await checks.check(of(schema))
        text = str(caught.value)
        assert text.startswith(f"`{spelled('text.format.schema', place)}`: `{keyword}`")
        assert "guidance" in text and caught.value.param == "text.format.schema"


async def test_a_schema_is_asked_about_once() -> None:
    asked: list[Mapping[str, Any]] = []

    async def refuses(part: Mapping[str, Any]) -> str | None:
        asked.append(part)
        return None

    checks = GrammarChecks(refuses, lambda: "any")
    for _ in range(3):
        await checks.check(of(POINT))
        await checks.check(AnswerFormat("json_object"))
    assert asked == [POINT]


async def test_where_no_keyword_is_at_fault_the_reason_stands_alone() -> None:
    async def refuses(part: Mapping[str, Any]) -> str | None:
        return "I do not like it"

    with pytest.raises(EngineRequestError, match=r"schema`: .*does not take this.*do not like it"):
        await GrammarChecks(refuses, lambda: "any").check(of({"type": "string"}))


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"uniqueItems": False}, {}),
        ({"type": "string", "format": "binary"}, {"type": "string"}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"propertyNames": {"type": "string"}}, {}),
        (
            {"propertyNames": {"enum": ["a", "b"]}, "additionalProperties": {"type": "null"}},
            {
                "properties": {"a": {"type": "null"}, "b": {"type": "null"}},
                "additionalProperties": False,
            },
        ),
        ({"propertyNames": {"pattern": "^a"}}, {"propertyNames": {"pattern": "^a"}}),
        ({"unevaluatedProperties": False}, {"additionalProperties": False}),
        (
            {"unevaluatedProperties": False, "allOf": [POINT]},
            {"unevaluatedProperties": False, "allOf": [POINT]},
        ),
        ({"const": {"uniqueItems": False}}, {"const": {"uniqueItems": False}}),
        ({"properties": {"not": {"uniqueItems": False}}}, {"properties": {"not": {}}}),
    ],
)
def test_words_that_say_nothing_are_left_out(schema: Any, wanted: Any) -> None:
    before = json.dumps(schema)
    assert simplified(schema) == wanted
    assert json.dumps(schema) == before


def test_references_of_a_schema_that_moves() -> None:
    schema = {
        "$id": "https://example.org/x",
        "properties": {"$ref": {"$ref": "#/$defs/p"}, "me": {"$ref": "#"}},
        "const": {"$ref": "#"},
        "$defs": {"p": POINT},
        "components": {"schemas": {"q": {"$ref": "#/$defs/p"}}},
    }
    whole = {"$defs": {"0": moved(schema, "#/$defs/0")}}
    inner = whole["$defs"]["0"]
    assert inner["const"] == {"$ref": "#"} and "$id" not in inner
    assert follow(inner["properties"]["$ref"]["$ref"], whole)[1] == POINT
    assert follow(inner["properties"]["me"]["$ref"], whole)[1] == inner
    assert follow(inner["components"]["schemas"]["q"]["$ref"], whole)[1] == POINT


def test_pointers_are_followed_as_they_are_written() -> None:
    root = {"$defs": {"a/b": {"x~y": 1}}, "anyOf": [0, {"k": 2}]}
    assert follow("#/$defs/a~1b/x~0y", root) == (("$defs", "a/b", "x~y"), 1)
    assert follow("#/anyOf/1/k", root) == (("anyOf", 1, "k"), 2)
    for wrong in ("#/anyOf/2", "#/anyOf/x", "#/$defs/a", "other#/a", "#a"):
        with pytest.raises(ReferenceFault):
            follow(wrong, root)


def test_a_walk_of_references_in_a_circle_ends() -> None:
    schema = {"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}
    assert len(list(walk(schema))) == 3


TOOLS = (
    {"type": "function", "function": {"name": "now"}},
    {
        "type": "function",
        "function": {
            "name": "go",
            "parameters": {
                "type": "object",
                "properties": {"to": {"$ref": "#/$defs/p"}, "days": {"uniqueItems": False}},
                "required": ["to"],
                "$defs": {"p": POINT},
            },
        },
    },
)


def test_what_a_tools_schema_refers_to_is_found_in_the_grammar_of_calls() -> None:
    wanted = ToolUse(TOOLS, "required").answer_format()
    assert wanted is not None
    check_format(wanted)
    assert not guidance_refuses(wanted.schema or {})
    validator = validator_for({})(wanted.schema)
    validator.validate([{"name": "now", "arguments": {}}])
    validator.validate([{"name": "go", "arguments": {"to": {"x": 1}}}])
    assert not validator.is_valid([{"name": "go", "arguments": {"to": {"x": "1"}}}])
    assert not validator.is_valid([{"name": "now", "arguments": {"to": {"x": 1}}}])
    assert [field for field, _ in wanted.parts] == [
        "tools[0].function.parameters",
        "tools[1].function.parameters",
    ]
