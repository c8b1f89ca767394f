"""Calls as OpenAI-compatible servers tell them: numbers, ids and names left out, late or twice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from extracot_server.engine.openai.wire import read_chunk
from extracot_server.engine.said import SaidCall
from extracot_server.generation import relayed_calls
from extracot_server.generation.relayed_calls import RelayedCalls
from tests.server.engine.chat_fakes import FakeChat, in_front_of
from tests.server.live import collect
from tests.server.test_tools import WEATHER

ONE = [(None, "f", '{"a": 1}')]
TWO = [("c1", "f", '{"a": 1}'), ("c2", "g", '{"b": 2}')]


def call(number: int, id_: str | None, name: str | None, arguments: str = "") -> SaidCall:
    return SaidCall(number, id_, name, arguments)


def made(*parts: SaidCall) -> list[tuple[str | None, str | None, str]]:
    """Id, name and arguments of the calls that a client puts together."""
    calls, found = RelayedCalls(), []
    for part in filter(None, map(calls.take, parts)):
        if part.name is not None:
            assert part.call == len(found), "calls are told of in their order"
            found.append((part.id, part.name, ""))
        id_, name, arguments = found[part.call]
        found[part.call] = (id_, name, arguments + part.arguments)
    return found


@pytest.mark.parametrize(
    "parts",
    [
        [call(0, "c1", "f", '{"a": 1}'), call(0, "c2", "g", '{"b": 2}')],
        [call(0, "c1", "f"), call(0, None, None, '{"a": 1}'), call(0, "c2", "g", '{"b": 2}')],
        [call(0, "c1", "f", '{"a"'), call(0, "c1", "f", ": 1}"), call(1, "c2", "g", '{"b": 2}')],
        [call(0, "c1", "f", '{"a"'), call(0, "x", None, ": 1}"), call(1, "c2", "g", '{"b": 2}')],
        [call(-1, "c1", "f", '{"a"'), call(-1, "c1", "f", ": 1}"), call(-1, "c2", "g", '{"b": 2}')],
        [call(0, "c1", None, '{"a"'), call(0, None, "f", ": 1}"), call(1, "c2", "g", '{"b": 2}')],
        [
            *(call(1, None, None, '{"b"'), call(0, "c1", "f", '{"a"'), call(0, None, None, ": 1}")),
            *(call(1, "c2", None, ": "), call(1, None, "g", "2}")),
        ],
    ],
    ids=["one number", "in parts", "said twice", "new ids", "no numbers", "name last", "mixed"],
)
def test_two_calls_are_two_however_they_are_told(parts: list[SaidCall]) -> None:
    assert made(*parts) == TWO


def test_whole_arguments_end_a_call_that_has_no_id() -> None:
    one, two = made(call(0, None, "f", '{"a": 1}'), call(0, None, "f", '{"a": 2}'))
    assert (one[2], two[2]) == ('{"a": 1}', '{"a": 2}') and one[0] != two[0]
    assert [found[2] for found in made(call(0, None, "f", "{}"), call(0, None, "f"))] == ["{}"]
    assert [found[2] for found in made(call(0, None, "f", "{"), call(0, None, "f", "}"))] == ["{}"]


@pytest.mark.parametrize(
    "parts",
    [
        [call(0, None, "f"), call(0, "c1", "f", '{"a": '), call(0, None, None, "1}")],
        [call(0, None, "f"), call(0, "c1", "f", '{"a": '), call(0, "c1", "f", "1}")],
        [call(-1, None, "f"), call(-1, "c1", "f", '{"a": '), call(-1, "c1", None, "1}")],
        [call(0, "c1", "f", '{"a": '), call(0, "c2", "f", "1}")],
        [call(-1, "c1", "f", '{"a": '), call(-1, "c2", "f", "1}")],
        [call(-1, None, "f", '{"a": '), call(-1, None, "f", "1}")],
        [call(0, "c1", "f", '{"a": 1}'), call(0, "c1", "f", '{"a": 1}')],
        [call(0, "c1", "f", '{"a": '), call(0, "c1", "f", "1}"), call(0, "c1", "f", '{"a": 1}')],
        [call(0, "c1", "f", '{"a": '), call(0, None, None, "1}"), call(0, "c1", None, '{"a": 1}')],
        [call(-1, "c1", "f", '{"a": 1}'), call(-1, "c1", "f", '{"a": 1}')],
        [call(0, "c1", "f", '{"a": 1}'), call(0, "c2", None, " \n"), call(0, None, "f")],
    ],
    ids=[
        *("late id", "late id, name again", "late id, no number", "new ids", "new ids, no number"),
        *("no ids", "told again", "parts told again", "again without a name", "again, no number"),
        "white space",
    ],
)
def test_one_call_is_one_however_it_is_told(parts: list[SaidCall]) -> None:
    ((_, name, arguments),) = made(*parts)
    assert (name, arguments.rstrip()) == ("f", '{"a": 1}')


@pytest.mark.parametrize(
    "parts",
    [
        [call(0, None, "f", "{}"), call(0, None, "g"), call(0, None, None, '{"b":2}')],
        [call(0, None, "f"), call(0, None, "g", '{"b":2}')],
        [call(-1, "a", "f", "{}"), call(-1, "b", None, '{"b":'), call(-1, "b", "g", "2}")],
        [call(0, "a", "f", "{}"), call(0, "b", None, '{"b":'), call(0, None, "g", "2}")],
        [
            *(call(0, "a", "f"), call(0, "b", "g", '{"b":'), call(0, "a", None, "{}")),
            call(0, "b", None, "2}"),
        ],
        [call(0, "a", "f", "{}"), call(0, "b", "g", '{"b":2}'), call(0, "a", "f", "{}")],
    ],
    ids=["other name", "nothing of the first", "late name", "shared number", "in turn", "again"],
)
def test_another_name_is_another_call(parts: list[SaidCall]) -> None:
    found = [(name, arguments or "{}") for _, name, arguments in made(*parts)]
    assert found == [("f", "{}"), ("g", '{"b":2}')]


def test_calls_of_one_name_without_arguments_are_as_many_as_their_ids() -> None:
    assert len(made(call(0, "c1", "f"), call(0, "c2", "f"))) == 2
    assert len(made(call(0, "c1", "f", "{}"), call(1, "c1", "f", "{}"))) == 2


def test_long_arguments_are_not_read_again_with_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(relayed_calls.json, "loads", read.append)
    parts = [call(0, "c1", "f", '{"t": "'), *[call(0, "c1", "f", "abcd")] * 99]
    ((_, _, arguments),) = made(*parts)
    assert len(arguments) == 7 + 4 * 99 and read == []


def test_calls_of_one_id_have_ids_of_their_own() -> None:
    (one, _, _), (two, _, _) = made(call(0, "c", "f", "{}"), call(1, "c", "g", "{}"))
    assert one == "c" and two not in (None, "c")


def test_a_call_without_a_name_is_none() -> None:
    assert made(call(0, "c1", None, "{}"), call(-1, None, None, "{}")) == []


def test_names_and_ids_that_are_empty_are_none() -> None:
    told: list[dict[str, Any]] = [
        {"index": 0, "id": "", "function": {"name": "", "arguments": "{}"}},
        {"index": "x", "id": "c", "function": {"name": "f", "arguments": {"a": 1}}},
        {"index": -3, "id": None, "function": {"name": "", "arguments": ""}},
    ]
    data = {"choices": [{"delta": {"tool_calls": told}}]}
    assert read_chunk(json.dumps(data).encode()).said.calls == (
        SaidCall(0, None, None, "{}"),
        SaidCall(-1, "c", "f", '{"a": 1}'),
    )


def test_a_client_gets_the_calls_of_such_servers() -> None:
    name = WEATHER["function"]["name"]
    fake = FakeChat(reasoning=[], counts="each")
    with in_front_of(fake) as live:
        fake.calls = [
            {
                "index": 0,
                "id": f"c{n}",
                "function": {"name": name, "arguments": f'{{"city": "{n}"}}'},
            }
            for n in range(2)
        ]
        choice = live.chat(tools=[WEATHER])["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        told = [json.loads(one["function"]["arguments"]) for one in choice["message"]["tool_calls"]]
        assert told == [{"city": "0"}, {"city": "1"}]
        chunks = live.chunks(tools=[WEATHER])
        assert collect(chunks)["finish_reason"] == "tool_calls"
        parts = [p for c in chunks for x in c["choices"] for p in x["delta"].get("tool_calls", ())]
        assert [(part["index"], part["id"]) for part in parts] == [(0, "c0"), (1, "c1")]
        fake.calls = [
            {"id": "c1", "function": {"name": name, "arguments": '{"city": '}},
            {"id": "", "function": {"name": "", "arguments": '"Oslo"}'}},
        ]
        (one,) = live.chat(tools=[WEATHER])["choices"][0]["message"]["tool_calls"]
        assert json.loads(one["function"]["arguments"]) == {"city": "Oslo"}
