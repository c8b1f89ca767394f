"""Tool calls out of text: however it is cut, the same calls and not a character of text lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_server.tool_calls.tool_reading import HermesReader, NamedReader, RequiredReader
from extracot_server.tool_calls.tools import CallPart, CallReader

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=6), JSON, max_size=4)
NAMES = st.from_regex(r"[a-z_]{1,9}", fullmatch=True)


def read(reader: CallReader, text: str, size: int) -> tuple[str, list[tuple[str, str]]]:
    """Text and calls, fed ``size`` characters at a time."""
    shown, calls = "", {}
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    found = [item for piece in pieces for item in reader.feed(piece, ())] + reader.finish()
    for item in found:
        if isinstance(item, str):
            assert item
            shown += item
        elif item.name is not None:
            assert item.call not in calls and item.id
            calls[item.call] = [item.name, item.arguments]
        else:
            calls[item.call][1] += item.arguments
    assert list(calls) == list(range(len(calls)))
    return shown, [(name, arguments) for name, arguments in calls.values()]


@given(
    calls=st.lists(st.tuples(NAMES, OBJECTS), min_size=1, max_size=3),
    size=st.integers(1, 30),
    indent=st.sampled_from([None, 2]),
    swapped=st.booleans(),
)
def test_calls_come_out_as_they_went_in(
    calls: list[tuple[str, Any]], size: int, indent: int | None, swapped: bool
) -> None:
    texts = [json.dumps(arguments, indent=indent, ensure_ascii=False) for _, arguments in calls]
    wanted = [(name, text) for (name, _), text in zip(calls, texts, strict=True)]
    objects = [
        f'{{"arguments": {text}, "name": "{name}"}}'
        if swapped
        else f'{{"name": "{name}", "arguments": {text}}}'
        for name, text in wanted
    ]
    hermes = "Well.\n" + "\n".join(f"<tool_call>\n{o}\n</tool_call>" for o in objects)
    if not any("tool_call>" in text for text in texts):
        assert read(HermesReader(), hermes, size) == ("Well.", wanted)
        assert read(HermesReader(parallel=False), hermes, size) == ("Well.", wanted[:1])
    assert read(RequiredReader(), f"[{', '.join(objects)}]", size) == ("", wanted)
    assert read(NamedReader("f"), texts[0], size) == ("", [("f", texts[0])])


@given(text=st.text(alphabet='<>/tol_ca \n{}":x', max_size=60), size=st.integers(1, 9))
def test_text_that_is_no_call_is_shown_whole(text: str, size: int) -> None:
    if "<tool_call>" not in text:
        assert read(HermesReader(), text, size) == (text, [])


@pytest.mark.parametrize("size", [1, 2, 5, 100])
@pytest.mark.parametrize(
    ("text", "shown", "calls"),
    [
        ("a <tool_call>no</tool_call> b", "a <tool_call>no</tool_call> b", []),
        ("<tool_call>{\"x\": 1}</tool_call>", "<tool_call>{\"x\": 1}</tool_call>", []),
        ('<tool_call>{"name": "f"}</tool_call>\n', "", [("f", "{}")]),
        ('<tool_call>{"name": "f", "arguments": {"a', "", [("f", '{"a')]),
        ('<tool_call>{"name": "f", "arguments": {}}}</tool_call>', "", [("f", "{}")]),
        ('<tool_call>{"name": "f"}<tool_call>{"name": "g"}', "", [("f", "{}"), ("g", "{}")]),
        ('<tool_call>{"name": "f", "parameters": {"b": "}"} }', "", [("f", '{"b": "}"}')]),
        ('One <tool_call>{"name": "f"}</tool_call>\n two', "One\n two", [("f", "{}")]),
        ("a < b <tool_cal", "a < b <tool_cal", []),
    ],
)  # fmt: skip
def test_what_models_do(text: str, shown: str, calls: list[tuple[str, str]], size: int) -> None:
    assert read(HermesReader(), text, size) == (shown, calls)


def test_arguments_are_given_out_as_they_come() -> None:
    reader = HermesReader()
    (start,) = reader.feed('<tool_call>\n{"name": "f", ', ())
    assert isinstance(start, CallPart)
    assert (start.call, start.name, start.arguments) == (0, "f", "")
    parts = reader.feed('"arguments": {"city": "Zü', ())
    assert parts == [CallPart(0, '{"city": "Zü')]
    assert reader.feed("rich", ()) == [CallPart(0, "rich")]
