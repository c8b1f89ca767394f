"""Tool calls out of text: however it is cut, the same calls and not a character of text lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extracot_server.config.setting_values import SettingsError
from extracot_server.engine.scripted.tokenizer import ScriptedTokenizer
from extracot_server.tool_calls.hermes import HermesFormat
from extracot_server.tool_calls.tool_reading import (
    HermesReader,
    NamedReader,
    RequiredReader,
    call_reader_factory,
)
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
        # Arguments in other forms.
        ('<tool_call>{"arguments": {"name": "x"}, "name": "f"}</tool_call>', "",
         [("f", '{"name": "x"}')]),
        (r'<tool_call>{"name": "f", "arguments": "{\"a\": \"\\n\u00e9\ud83d\ude42\"}"}</tool_call>',
         "", [("f", '{"a": "\\né🙂"}')]),
        (r'<tool_call>{"name": "f", "arguments": " \n{\"a\": 1}"}</tool_call>', "",
         [("f", '{"a": 1}')]),
        ('<tool_call>{"name": "f", "arguments": "Bern"}</tool_call>', "", [("f", '"Bern"')]),
        ('<tool_call>{"name": "f", "arguments": " "}</tool_call>', "", [("f", "{}")]),
        ('<tool_call>{"name": "f", "arguments": null}</tool_call>', "", [("f", "{}")]),
        ('<tool_call>{"name": "f", "arguments": [1, null]}</tool_call>', "", [("f", "[1, null]")]),
        ('<tool_call>{"name": "f", "arguments": {"a": 1}, "parameters": {}}</tool_call>', "",
         [("f", '{"a": 1}')]),
        ('<tool_call>{"x": 7, "name": "f", "arguments": {"arguments": {"b": [{}]}}, "y": 0}'
         "</tool_call>", "", [("f", '{"arguments": {"b": [{}]}}')]),
        # Several calls in a tag.
        ('<tool_call>{"name": "f"}\n{"name": "g"}</tool_call> so', " so",
         [("f", "{}"), ("g", "{}")]),
        ('<tool_call>[{"name": "f"}, {"name": "g"}]</tool_call>', "", [("f", "{}"), ("g", "{}")]),
        # Broken ones.
        ('<tool_call>{"name": "f", "arguments": {"a": 1}</tool_call> so', " so",
         [("f", '{"a": 1}')]),
        ('<tool_call>{"name": "f"</tool_call>', "", [("f", "{}")]),
        ('<tool_call>{"name": "f", "arguments": {"a": </tool_call> so', " so", [("f", '{"a": ')]),
        ('<tool_call>{"name": "f", "arguments": {b: 1}}</tool_call>', "", [("f", "{b: 1}")]),
        ('<tool_call>{"name": "f"}, then g</tool_call>!', " then g!", [("f", "{}")]),
        ('<tool_call>{"name": "f"} It runs.', " It runs.", [("f", "{}")]),
        ("<tool_call>{name: f}</tool_call>", "<tool_call>{name: f}</tool_call>", []),
        ("<tool_call></tool_call>", "<tool_call></tool_call>", []),
        ('<tool_call>{"name": 3}</tool_call>', '<tool_call>{"name": 3}</tool_call>', []),
        ('<tool_call>{"name": "f', '<tool_call>{"name": "f', []),
        ("Write <tool_call> and so on.\n", "Write <tool_call> and so on.\n", []),
        ("a </tool_call> b", "a </tool_call> b", []),
        # What is in a string is the string's.
        ('<tool_call>{"name": "f", "arguments": {"a": "</tool_call>\\""}}</tool_call>', "",
         [("f", '{"a": "</tool_call>\\""}')]),
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


PIECES = st.sampled_from(
    [
        *(
            "<tool_call>",
            "</tool_call>",
            "<tool_",
            "call>",
            "</",
            "<",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
        ),
        *('"', "\\", '"name"', '"f"', '"arguments"', '"parameters"', "null", "\\u00e9", "\\ud83d"),
        *(
            " ",
            "\n",
            "so",
            '{"name": "f"',
            '{"name": "f", "arguments": {"a": 1}}',
            '"{\\"a\\": 1}"',
        ),
    ]
)


@given(parts=st.lists(PIECES, max_size=16), size=st.integers(1, 9), parallel=st.booleans())
@example(['{"name": "f", "arguments": ', "\\ud83d", '"'], 1, True)
def test_the_same_text_gives_the_same_calls_however_it_is_cut(
    parts: list[str], size: int, parallel: bool
) -> None:
    text = "".join(parts)
    whole = read(HermesReader(parallel=parallel), text, max(1, len(text)))
    assert read(HermesReader(parallel=parallel), text, size) == whole
    inside = f"<tool_call>{text}"
    whole = read(HermesReader(parallel=parallel), inside, len(inside))
    assert read(HermesReader(parallel=parallel), inside, size) == whole
    for _, arguments in whole[1]:
        arguments.encode()  # no half of a surrogate pair


@given(arguments=OBJECTS, size=st.integers(1, 9), ascii_only=st.booleans())
def test_arguments_that_were_encoded_twice(arguments: Any, size: int, ascii_only: bool) -> None:
    once = json.dumps(arguments, ensure_ascii=ascii_only)
    call = json.dumps({"name": "f", "arguments": once}, ensure_ascii=ascii_only)
    text = f"<tool_call>{call}</tool_call>"
    if "tool_call>" not in once:
        assert read(HermesReader(), text, size) == ("", [("f", once)])


@given(parts=st.lists(PIECES, max_size=12), size=st.integers(1, 9))
def test_marked_tags_count_and_spelled_ones_are_text(parts: list[str], size: int) -> None:
    """As in a text whose spelled tags are spelled otherwise."""

    def marked(text: str) -> tuple[str, list[tuple[str, str]]]:
        reader = HermesReader(marked=True)

        class Marked:
            """Tags by :meth:`mark` where the text has ⟦ and ⟧."""

            def feed(self, piece: str, ids: tuple[int, ...]) -> list[str | CallPart]:
                out: list[str | CallPart] = []
                for character in piece:
                    if character in "⟦⟧":
                        out += reader.mark("<tool_call>" if character == "⟦" else "</tool_call>")
                    else:
                        out += reader.feed(character, ids)
                return out

            finish = staticmethod(reader.finish)

        return read(Marked(), text, size)

    spelled = "".join(parts)
    assert marked(spelled) == (spelled, [])
    call = json.dumps({"name": "f", "arguments": {"a": spelled}})
    shown, calls = marked(f"{spelled}⟦{call}⟧")
    assert (shown.rstrip(), calls) == (spelled.rstrip(), [("f", json.dumps({"a": spelled}))])


def test_ids_are_tags_where_the_prompt_shows_them() -> None:
    tokenizer = ScriptedTokenizer()
    tags = HermesFormat(tokenizer)
    opening = tokenizer.encode("<tool_call>")
    assert set(tags.tag_ids([1, *opening, 2]).values()) == {"<tool_call>", "</tool_call>"}
    assert not tags.tag_ids(tokenizer.encode("No tags here"))
    assert not HermesFormat(ScriptedTokenizer(tags_as_text=True)).tag_ids([1, 2, 3])


@pytest.mark.parametrize("engine", ["scripted", "remote", "vllm"])
def test_hermes_is_ours_on_every_engine(engine: str) -> None:
    assert isinstance(call_reader_factory("hermes", engine, ScriptedTokenizer()), HermesFormat)
    assert call_reader_factory(None, engine, ScriptedTokenizer()) is None


def test_vllm_s_own_is_refused_where_there_is_no_vllm() -> None:
    with pytest.raises(SettingsError, match="vllm:hermes"):
        call_reader_factory("vllm:hermes", "scripted", ScriptedTokenizer())
