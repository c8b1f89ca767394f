"""What conversations are accepted, on all three APIs: as agents and frameworks really send them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.extracot.test_fitting import template_text
from tests.extracot.test_tool_prompts import HERMES
from tests.server.conversations import (
    ASKED,
    END,
    PATHS,
    START,
    called,
    error,
    post,
    prompt,
    result,
    said,
    turn,
    write_with,
)
from tests.server.live import Live, serve


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    """Its template has a system turn anywhere."""
    with serve(tool_parser="hermes") as found:
        yield found


@pytest.fixture(scope="module")
def strict() -> Iterator[Live]:
    """Gemma 3's template: turns alternate, a system message is in the user's first."""
    with serve() as found:
        write_with(found, template_text("gemma3"))
        yield found


@pytest.mark.parametrize("api", PATHS)
def test_system_messages_anywhere(live: Live, api: str) -> None:
    first = prompt(live, api, said("system", "system", "user"))
    assert first.startswith(turn("system", "system0.\n\nsystem1.") + f"{START}user\n")
    later = prompt(live, api, said("user", "assistant", "system", "user"))
    assert turn("assistant", "assistant1.") + turn("system", "system2.") in later
    last = prompt(live, api, said("system", "user", "system"), budget=0.2)
    assert "user1. <COMP_20><|im_end|>\n" + turn("system", "system2.") in last


@pytest.mark.parametrize("api", PATHS)
def test_turns_that_a_template_refuses_are_merged(strict: Live, api: str) -> None:
    two = prompt(strict, api, said("user", "user"))
    assert two.count("<start_of_turn>user") == 1 and two.index("user0.") < two.index("user1.")
    told = prompt(strict, api, said("system", "user", "system", "user"), budget=0.2)
    assert "<start_of_turn>system" not in told and "<start_of_turn>user\nsystem0.\n\n" in told
    assert told.index("user1.") < told.index("system2.") < told.index("user3. <COMP_20><end_of")
    greeting = prompt(strict, api, said("assistant", "user"))
    assert "<start_of_turn>user\n<end_of_turn>\n<start_of_turn>model\nassistant0." in greeting


@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize(
    ("roles", "field"),
    [
        (["system"], "[0].role"),
        (["system", "system"], "[1].role"),
        (["assistant"], "[0].role"),
        (["user", "assistant"], "[1].role"),
    ],
)
def test_what_has_nothing_to_reply_to_is_refused(
    live: Live, api: str, roles: list[str], field: str
) -> None:
    where = "input" if api == "input" else "messages"
    assert error(live, api, said(*roles)).startswith(f"{where}{field}")


def test_blocks_of_a_system_prompt_are_paragraphs(live: Live) -> None:
    blocks = [{"type": "text", "text": text} for text in ("You are terse.", "It is Monday.")]
    text = prompt(live, "messages", said("user"), system=blocks)
    assert "You are terse.\n\nIt is Monday." in text


def test_what_claude_code_and_codex_send(live: Live) -> None:
    blocks = [{"type": "text", "text": "Note.", "cache_control": {"type": "ephemeral"}}]
    claude = prompt(
        live,
        "messages",
        [*said("user"), {"role": "system", "content": blocks}],
        system=[{"type": "text", "text": "You are.", "cache_control": {"type": "ephemeral"}}],
    )
    assert claude.startswith(turn("system", "You are.") + f"{START}user\n")
    assert f"user0.{END}" + turn("system", "Note.") in claude
    developer = [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": text}]}
        for text in ("Permissions.", "More.")
    ]
    codex = prompt(live, "input", [*developer, *said("user")], instructions="Base.")
    assert codex.startswith(turn("system", "Base.\n\nPermissions.\n\nMore.") + f"{START}user\n")
    last = live.engine.requests[-1].token_ids
    counted = live.http.post(
        "/v1/messages/count_tokens",
        json={"model": "scripted", "system": "Base.", "messages": said("system", "user")},
    )
    assert counted.status_code == 200 and 0 < counted.json()["input_tokens"] < len(last) + 20
    tokens = live.http.post("/v1/tokenize", json={"messages": said("user", "system", "user")})
    assert tokens.status_code == 200


# Calls and results

CALLED = '{"name": "clock", "arguments": '


@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize("arguments", ["", " \n", None, "null", "{}", {}])
def test_no_arguments_are_an_empty_object(live: Live, api: str, arguments: Any) -> None:
    text = prompt(live, api, [ASKED, called(api, arguments), result(api, "noon")])
    assert f"{CALLED}{{}}}}\n</tool_call>" in text


@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize(
    "arguments",
    ['{"city": "Zü', "[1]", "3", '{"a": NaN}', '{"a": "\\ud83d"}', "[" * 99, '{"a":' * 99, "</x>"],
)
def test_other_arguments_are_text(live: Live, api: str, arguments: str) -> None:
    text = prompt(live, api, [ASKED, called(api, arguments), result(api, "noon")])
    assert f"{CALLED}{json.dumps(arguments, ensure_ascii=False)}}}\n</tool_call>" in text


FIELDS = {
    "chat": "messages[1].tool_calls[0].function.arguments",
    "input": "input[1].arguments",
    "messages": "messages[1].content[0].input",
}


@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize("arguments", [3, [], True])
def test_arguments_of_another_type_are_named(live: Live, api: str, arguments: Any) -> None:
    talk = [ASKED, called(api, arguments), result(api, "noon")]
    assert error(live, api, talk).startswith((FIELDS[api], f"`{FIELDS[api]}`"))


def test_a_call_that_a_limit_cut_off_goes_back_in(live: Live) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
    ask = [{"role": "user", "content": "Use get_weather."}]
    for limit in range(16, 40):
        reply = live.chat(messages=ask, tools=[tool], budget="none", max_tokens=limit)
        message = reply["choices"][0]["message"]
        if not message.get("tool_calls"):
            continue
        answer = result("chat", "It failed.", message["tool_calls"][0]["id"])
        live.chat(messages=[*ask, message, answer], tools=[tool], max_tokens=1)
        if reply["choices"][0]["finish_reason"] != "length":
            return
    pytest.fail("no limit let the call be whole")


@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize(
    "talk",
    [
        lambda api: [ASKED, called(api, {}), {"role": "user", "content": "Stop."}],
        lambda api: [ASKED, called(api, {}), ASKED, result(api, "noon")],
        lambda api: [ASKED, called(api, {}), {"role": "system", "content": "S"}, result(api, "n")],
        lambda api: [ASKED, called(api, {}), result(api, "n"), {"role": "system", "content": "S"}],
        lambda api: [ASKED, called(api, {}), called(api, {}, "c2"), result(api, "2", "c2"), ASKED],
        lambda api: [ASKED, called(api, {}), called(api, {}), result(api, "1"), result(api, "2")],
        lambda api: [ASKED, called(api, {}), result(api, ""), called(api, {}), result(api, None)],
        lambda api: [ASKED, called(api, {}), result(api, []), result(api, "again")],
    ],
)
def test_interrupted_and_disordered_sessions_go_on(live: Live, api: str, talk: Any) -> None:
    asked = talk("chat" if api == "chat" else api)
    if api == "input":
        for item in asked:
            if isinstance(item.get("arguments"), dict):
                item["arguments"] = "{}"
    assert CALLED in prompt(live, api, asked, budget=0.4)


@pytest.mark.parametrize(
    ("api", "names"),
    [
        ("chat", "messages[1].role"),
        ("input", "input[1].call_id"),
        ("messages", "messages[1].content[0].tool_use_id"),
    ],
)
def test_a_result_without_a_call_is_refused_in_the_words_of_the_api(
    live: Live, api: str, names: str
) -> None:
    assert names in error(live, api, [ASKED, result(api, "noon")])
    other = [ASKED, called(api, {}), result(api, "noon", "c9")]
    names = {"chat": "messages[2].tool_call_id"}.get(api, names.replace("[1]", "[2]"))
    assert names in error(live, api, other)


@pytest.mark.parametrize(
    ("api", "names"),
    [
        ("chat", "messages[1].tool_calls"),
        ("input", "input[1]"),
        ("messages", "messages[1].content[0]"),
    ],
)
def test_a_template_without_calls_is_told_so(strict: Live, api: str, names: str) -> None:
    told = error(strict, api, [ASKED, called(api, {}), result(api, "noon")])
    assert told.startswith(names) and "no tool calls" in told


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({}, "`input[0].role` is missing"),
        ({"role": None, "content": "x"}, "`input[0].role` is missing"),
        ({"role": "user"}, "`input[0].content`"),
        ({"type": "function_call", "name": "f"}, "`input[0].call_id` is missing"),
        ({"type": "function_call", "call_id": "1"}, "`input[0].name` is missing"),
        ({"type": "function_call_output", "output": "x"}, "`input[0].call_id` is missing"),
        ({"type": "compaction", "encrypted_content": "x"}, '`input[0].type` is "compaction"'),
        ({"type": "zebra"}, '`input[0].type` is "zebra". Allowed: message'),
        ({"type": 3}, "`input[0].type` is 3. Allowed: message"),
        ({"type": "custom_tool_call", "call_id": "1", "name": "f"}, "`input[0].input`"),
    ],
)
def test_what_an_item_lacks_is_said(live: Live, item: dict[str, Any], says: str) -> None:
    told = error(live, "input", [item, *said("user")])
    assert says in told and "None" not in told


# Any roles in any order

KINDS = ["system", "developer", "user", "assistant", "call", "tool"]


def spoken(api: str, kinds: list[str], ids: list[int]) -> list[dict[str, Any]]:
    """A conversation of these kinds of messages in the words of an API."""
    talk: list[dict[str, Any]] = []
    for index, (kind, number) in enumerate(zip(kinds, ids, strict=True)):
        text = f"m{index}."
        if kind == "call":
            arguments: Any = {"x": text} if number else f"cut off {text}"
            given = json.dumps(arguments) if number and api != "messages" else arguments
            talk.append(called(api, given, f"c{number}"))
        elif kind == "tool":
            talk.append(result(api, text, f"c{number}"))
        elif api == "messages" and kind == "developer":
            talk.append({"role": "system", "content": text})
        else:
            talk.append({"role": kind, "content": text})
    return talk


@pytest.mark.parametrize("api", PATHS)
@settings(max_examples=60)
@given(data=st.data())
def test_none_is_a_500_and_no_text_is_lost(live: Live, api: str, data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(KINDS), max_size=7))
    kinds.append(data.draw(st.sampled_from(["user", "tool", "system"])))
    ids = data.draw(st.lists(st.integers(0, 1), min_size=len(kinds), max_size=len(kinds)))
    talk = spoken(api, kinds, ids)
    where = "input" if api == "input" else "messages"
    reply = post(live, api, {where: talk, "budget": 0.2})
    if reply.status_code == 400:
        told = reply.json()["error"]
        assert (told.get("param") or told["message"]).startswith((where, f"`{where}"))
        assert kinds.count("user") == 0 or "tool" in kinds
        return
    assert reply.status_code == 200, reply.text
    text = live.engine.tokenizer.decode(live.engine.requests[-1].token_ids)
    places = [text.index(f"m{index}.") for index in range(len(kinds))]
    assert places == sorted(places)


def test_the_hermes_template_moves_nothing() -> None:
    with serve(tool_parser="hermes") as other:
        write_with(other, HERMES)
        talk = [ASKED, called("chat", "{}"), {"role": "system", "content": "S."}]
        text = prompt(other, "chat", [*talk, result("chat", "noon")], budget=0.2)
        assert text.index("</tool_call>") < text.index("user\nS. <COMP_20>") < text.index("noon")
