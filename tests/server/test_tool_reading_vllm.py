"""Our reader of Hermes calls beside vLLM's parser: alike on what both can read, and where not.

docs/api.md has the table. No engine runs here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extracot_server.config.setting_values import SettingsError
from extracot_server.tool_calls.hermes import HermesReader
from extracot_server.tool_calls.tool_reading import call_reader_factory
from extracot_server.tool_calls.tools import CallReader, ToolUse
from tests.extracot import zoo
from tests.server.test_tool_reading import NAMES, OBJECTS, read

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
USE = ToolUse((TOOL,))


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """vLLM logs a traceback for a call that it cannot read."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def vllm_reader(use: ToolUse = USE, name: str = "vllm:hermes") -> CallReader:
    factory = call_reader_factory(name, "vllm", zoo.tokenizer("bytes"))
    assert factory is not None
    return factory(use)


@settings(deadline=None)
@given(
    calls=st.lists(st.tuples(NAMES, OBJECTS), min_size=1, max_size=3),
    size=st.integers(1, 30),
    ascii_only=st.booleans(),
)
def test_both_read_usual_calls_alike(
    calls: list[tuple[str, Any]], size: int, ascii_only: bool
) -> None:
    wanted = [(name, json.dumps(given, ensure_ascii=ascii_only)) for name, given in calls]
    if any("tool_call>" in given or '"arguments"' in given for _, given in wanted):
        return
    objects = [f'{{"name": "{name}", "arguments": {given}}}' for name, given in wanted]
    text = "Well.\n" + "\n".join(f"<tool_call>\n{one}\n</tool_call>" for one in objects)
    assert read(HermesReader(), text, size) == ("Well.", wanted)
    shown, found = read(vllm_reader(), text, size)
    assert (shown.strip(), found) == ("Well.", wanted)


TAG = "<tool_call>{}</tool_call>".format


@pytest.mark.parametrize(
    ("text", "ours", "vllms"),
    [
        (TAG('{"arguments": {"a": 1}, "name": "f"}'),
         ("", [("f", '{"a": 1}')]), ("", [("f", '{"a": 1}, "name": "f"')])),
        (TAG('{"arguments": {"name": "x"}, "name": "f"}'),
         ("", [("f", '{"name": "x"}')]), ("", [("x", '{"name": "x"}, "name": "f"')])),
        (TAG('{"name": "f", "arguments": {"a": 1}, "id": 7}'),
         ("", [("f", '{"a": 1}')]), ("", [("f", '{"a": 1}, "id": 7')])),
        (TAG('{"name": "f", "parameters": {"a": 1}}'),
         ("", [("f", '{"a": 1}')]), ("", [("f", "{}")])),
        (TAG('{"name": "f", "arguments": null}'),
         ("", [("f", "{}")]), ("", [("f", "null")])),
        (TAG(r'{"name": "f", "arguments": "{\"a\": 1}"}'),
         ("", [("f", '{"a": 1}')]), ("", [("f", r'"{\"a\": 1}"')])),
        (TAG('{"name": "f", "arguments": {"a": "</tool_call>"}}'),
         ("", [("f", '{"a": "</tool_call>"}')]), ("", [("f", '{"a": "')])),
        (TAG('[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]'),
         ("", [("f", "{}"), ("g", "{}")]),
         ("", [("f", '{}}, {"name": "g", "arguments": {}}]')])),
        (TAG('{"name": "f", "arguments": {}}') + " Done.",
         (" Done.", [("f", "{}")]), ("", [("f", "{}")])),
    ],
)  # fmt: skip
def test_where_they_differ(text: str, ours: Any, vllms: Any) -> None:
    for size in (1, 4, 1000):
        assert read(HermesReader(), text, size) == ours
        assert read(vllm_reader(), text, size) == vllms


def test_vllm_s_calls_depend_on_how_the_text_is_cut() -> None:
    """A brace too many, or one too few, as small models write them."""
    for text in (TAG('{"name": "f", "arguments": {"a": 1}'),
                 TAG('{"name": "f", "arguments": {"a": 1}}}')):  # fmt: skip
        sizes = (1, 5, 1000)
        assert {str(read(HermesReader(), text, size)) for size in sizes} == {
            str(("", [("f", '{"a": 1}')]))
        }
        assert len({str(read(vllm_reader(), text, size)) for size in sizes}) == 2


def test_names_of_parsers() -> None:
    single = read(vllm_reader(ToolUse((TOOL,), parallel=False)), TAG('{"name": "f"}') * 2, 5)
    assert single == ("", [("f", "{}")])
    assert read(vllm_reader(name="pythonic"), "[f(a=1)]", 1000) == ("", [("f", '{"a": 1}')])
    with pytest.raises(SettingsError, match="llama3_json does not fit this model"):
        vllm_reader(name="llama3_json")
    with pytest.raises(SettingsError, match=r"tool_parser is 'hermess'; vLLM has .*hermes, "):
        vllm_reader(name="vllm:hermess")
    with pytest.raises(SettingsError, match="'hermess'"):
        vllm_reader(name="hermess")
