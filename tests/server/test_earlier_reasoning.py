"""Reasoning of earlier replies under every name in use, and what is sealed for clients to keep."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from extracot_server.api.chat.message import ChatMessage
from extracot_server.api.chat.message import read_messages as read_chat
from extracot_server.api.earlier_reasoning import MOST_OPENED, UNSIGNED, EarlierReasoning
from extracot_server.api.messages.conversation import read_conversation
from extracot_server.api.messages.request import MessageParam
from extracot_server.api.reasoning_seal import MAX_TEXT, ReasoningSeal
from extracot_server.api.responses.conversation import read_input
from extracot_server.config.settings import Settings, SettingsError, load_settings
from extracot_server.errors import InvalidRequestError
from tests.server.key_files import OTHER, SECRET, bearer, write
from tests.server.live import Live, serve, user

SEAL = ReasoningSeal(b"a secret of the tests")
SEALED = str(SEAL.seal("", "I think so."))
FOREIGN = str(ReasoningSeal(b"another one").seal("", "I think so."))


def named(value: object) -> str:
    """A parameter's name, the same in every process: what is sealed differs each time."""
    return str(value).replace(SEALED, "SEALED").replace(FOREIGN, "FOREIGN")


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def thoughts() -> EarlierReasoning:
    return EarlierReasoning(lambda sealed: SEAL.open("", sealed))


def chat(**message: Any) -> str | None:
    """The reasoning of an assistant's message of chat."""
    given = {"role": "assistant", "content": "So.", **message}
    (found,) = read_chat([ChatMessage.model_validate(given)], thoughts())
    assert found.content == "So."
    return found.reasoning


DETAILS = [
    {"type": "reasoning.text", "text": "I think", "index": 0, "format": "x", "signature": None},
    {"type": "reasoning.text", "text": " so.", "index": 0},
]


SHORT = {"type": "reasoning.summary", "summary": "In short."}


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning": "I think so."},
        {"reasoning_content": "I think so."},
        {"thinking": "I think so."},
        {"reasoning": "I think so.", "reasoning_content": "I think so."},
        {"reasoning": "I think so.", "reasoning_content": None, "reasoning_details": []},
        {"reasoning": "", "reasoning_content": "I think so."},
        {"reasoning_details": DETAILS},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "I think so."}]},
        {"reasoning": "I think so.", "reasoning_details": DETAILS},
        {"reasoning": "I think so.", "reasoning_details": [{"type": "reasoning.encrypted"}]},
        {"reasoning": "I think so.", "reasoning_details": [SHORT]},
        {"reasoning_details": [SHORT, *DETAILS]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "I think so.", "signature": "s"}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": SEALED}]},
        {"thinking_blocks": [{"type": "redacted_thinking", "data": SEALED}]},
    ],
    ids=named,
)
def test_a_message_of_chat(fields: dict[str, Any]) -> None:
    assert chat(**fields) == "I think so."


@pytest.mark.parametrize(
    "part",
    [
        {"type": "thinking", "thinking": "I think so."},
        {"type": "thinking", "thinking": [{"type": "text", "text": "I think so."}]},  # Mistral's
        {"type": "reasoning", "text": "I think so."},  # the AI SDK's
        {"type": "reasoning", "reasoning": "I think so."},  # LangChain's
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "I think so."}]},
        {"type": "reasoning_content", "text": "I think so."},
        {"type": "redacted_thinking", "data": SEALED},
    ],
    ids=named,
)
def test_a_part_of_a_content(part: dict[str, Any]) -> None:
    assert chat(content=[part, {"type": "text", "text": "So."}]) == "I think so."
    block = MessageParam(role="assistant", content=[part, {"type": "text", "text": "So."}])
    (found,) = read_conversation(None, [block], thoughts())
    assert (found.reasoning, found.content) == ("I think so.", "So.")


def test_no_reasoning_is_none() -> None:
    for nothing in ({}, {"reasoning": ""}, {"reasoning_details": []}, {"thinking": None}):
        assert chat(**nothing) is None
    message = ChatMessage.model_validate({"role": "user", "content": "x", "reasoning": "mine"})
    assert read_chat([message], thoughts())[0].reasoning is None


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"reasoning": "a", "reasoning_content": "b"}, ("reasoning", "reasoning_content")),
        ({"reasoning": "a", "reasoning_details": DETAILS}, ("reasoning", "reasoning_details")),
        ({"reasoning_content": "a", "thinking": "b"}, ("reasoning_content", "thinking")),
        (
            {"reasoning": "a", "content": [{"type": "thinking", "thinking": "b"}]},
            ("reasoning", "content"),
        ),
        ({"reasoning": "a", "content": "<think>\nb\n</think>\nSo."}, ("reasoning", "content")),
    ],
    ids=named,
)
def test_names_that_disagree_are_both_named(
    token_server: Live, fields: dict[str, Any], names: tuple[str, str]
) -> None:
    earlier = [*user(), {"role": "assistant", "content": "So.", **fields}, *user()]
    error = token_server.refused(messages=earlier)
    assert all(f"`messages[1].{name}`" in error["message"] for name in names)
    same = {"reasoning": "b", "content": "<think>\nb\n</think>\nSo."}
    token_server.chat(messages=[earlier[0], {"role": "assistant", **same}, *user()])


def test_a_think_block_beside_other_reasoning_on_the_other_apis(token_server: Live) -> None:
    text = "<think>\nb\n</think>\nSo."
    said = [{"type": "thinking", "thinking": "a", "signature": ""}, {"type": "text", "text": text}]
    body: dict[str, Any] = {"messages": [*user(), {"role": "assistant", "content": said}, *user()]}
    reply = token_server.http.post("/v1/messages", json={"max_tokens": 9, **body})
    assert reply.status_code == 400 and "`messages[1].content`" in reply.text
    given = [*user(), item(content=content("a")), {"role": "assistant", "content": text}, *user()]
    reply = token_server.http.post("/v1/responses", json={"input": given})
    assert reply.status_code == 400 and "`input[2].content`" in reply.text


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning": 5}, "reasoning"),
        ({"reasoning_content": ["a"]}, "reasoning_content"),
        ({"reasoning_details": "a"}, "reasoning_details"),
        ({"reasoning_details": [{"type": "reasoning.text", "text": 5}]}, "reasoning_details[0]"),
        ({"thinking": {"a": 1}}, "thinking"),
        ({"thinking_blocks": ["a"]}, "thinking_blocks[0]"),
        ({"thinking_blocks": [{"type": "thinking", "signature": 5}]}, "thinking_blocks[0]"),
        ({"content": [{"type": "thinking", "thinking": 5}]}, "content[0].thinking"),
    ],
    ids=named,
)
def test_wrong_types_name_their_field(
    token_server: Live, fields: dict[str, Any], param: str
) -> None:
    earlier = [*user(), {"role": "assistant", "content": "So.", **fields}, *user()]
    assert token_server.refused(messages=earlier)["param"].startswith(f"messages[1].{param}")


def item(**fields: Any) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1", "summary": [], **fields}


def summary(text: str) -> list[dict[str, Any]]:
    return [{"type": "summary_text", "text": text}]


def content(text: str) -> list[dict[str, Any]]:
    return [{"type": "reasoning_text", "text": text}]


@pytest.mark.parametrize(
    ("fields", "unread"),
    [
        ({"content": content("I think so.")}, []),
        ({"summary": summary("I think so.")}, []),
        ({"summary": summary("In short."), "content": content("I think so.")}, []),
        ({"encrypted_content": SEALED}, []),
        ({"encrypted_content": SEALED, "summary": summary("In short.")}, []),
        ({"encrypted_content": SEALED, "content": content("I think so.")}, []),
        (
            {"encrypted_content": FOREIGN, "summary": summary("I think so.")},
            ["input[1].encrypted_content"],
        ),
    ],
    ids=named,
)
def test_an_item_s_reasoning_is_that_of_what_follows(
    fields: dict[str, Any], unread: list[str]
) -> None:
    reader = thoughts()
    items = [
        {"role": "user", "content": "Hello"},
        item(**fields),
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"role": "assistant", "content": "So."},
        item(content=content("Lost.")),
        {"role": "user", "content": "And?"},
    ]
    found = read_input(None, items, reader)
    assert [m.reasoning for m in found] == [None, "I think so.", None, None, None]
    assert reader.unread == unread


def test_what_one_turn_said_and_called_is_one_message() -> None:
    items = [
        item(content=content("First.")),
        {"role": "assistant", "content": "Let me see."},
        item(content=content("Then.")),
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"role": "user", "content": "And?"},
    ]
    said, _, _ = read_input(None, items, thoughts())
    assert (said.reasoning, said.content, len(said.tool_calls)) == (
        *("First.\n\nThen.", "Let me see."),
        1,
    )


def test_sealed_reasoning_that_contradicts_what_is_shown_is_refused() -> None:
    items = [item(encrypted_content=SEALED, content=content("Other.")), {"role": "user"}]
    with pytest.raises(InvalidRequestError) as caught:
        read_input(None, items, thoughts())
    for name in ("encrypted_content", "content"):
        assert f"`input[0].{name}`" in str(caught.value)


@pytest.mark.parametrize(
    "sealed",
    [FOREIGN, SEALED[:-4], SEALED[:-1] + "é", "x", "a" * 3_000_000, SEALED[1:], "=" * 44],
    ids=["another key", "shorter", "another end", "short", "long", "no start", "padding"],
)
def test_what_cannot_be_opened_is_left_out_and_reported(token_server: Live, sealed: str) -> None:
    before = [{"role": "user", "content": "Hello"}, item(encrypted_content=sealed)]
    after = [{"role": "assistant", "content": "So."}, {"role": "user", "content": "And 2 + 2?"}]
    reply = token_server.http.post("/v1/responses", json={"input": [*before, *after]})
    assert reply.status_code == 200, reply.text
    assert reply.json()["budget"]["ignored_fields"] == ["input[1].encrypted_content"]
    blocks = [{"type": "thinking", "thinking": "", "signature": sealed}]
    said = {"role": "assistant", "content": [*blocks, {"type": "text", "text": "So."}]}
    body = {"max_tokens": 900, "messages": [*user("Hello"), said, *user("And 2 + 2?")]}
    report = token_server.http.post("/v1/messages", json=body).json()["budget"]
    assert report["ignored_fields"] == ["messages[1].content[0].signature"]


def test_a_signature_beside_thinking_that_is_shown_need_not_be_ours() -> None:
    for signature in (UNSIGNED, "", "EqQBCgIYAhIM", None):
        reader = thoughts()
        block = {"type": "thinking", "thinking": "I think so.", "signature": signature}
        text = {"type": "text", "text": "So."}
        message = MessageParam(role="assistant", content=[block, text])
        (found,) = read_conversation(None, [message], reader)
        assert (found.reasoning, reader.unread) == ("I think so.", [])


# What the server seals -------------------------------------------------------------------------


def test_sealed_text_is_opened_with_its_key_for_its_owner_alone() -> None:
    for text in ("I think", "I think so. 然后" * 999, "a" * MAX_TEXT):
        sealed = SEAL.seal("ada", text)
        assert sealed is not None and text[:9] not in sealed
        assert SEAL.open("ada", sealed) == text
        assert base64.b64decode(sealed, validate=True)
        assert ReasoningSeal(b"a secret of the tests").open("ada", sealed) == text
        assert SEAL.open("bob", sealed) is None
        for at in range(0, len(sealed) - 4, max(1, len(sealed) // 40)):
            changed = "A" if sealed[at] != "A" else "B"
            assert SEAL.open("ada", sealed[:at] + changed + sealed[at + 1 :]) is None
    assert SEAL.seal("ada", "") is None
    assert SEAL.seal("ada", "a" * (MAX_TEXT + 1)) is None


def reasoned(live: Live, **fields: Any) -> dict[str, Any]:
    """The reasoning item of a response, whole; a streamed one has to be the same but its key."""
    body = {"input": "What is 12 * 3 + 4?", **fields}
    found: dict[str, Any] = live.http.post("/v1/responses", json=body).json()["output"][0]
    assert found["type"] == "reasoning"
    return found


def test_a_response_has_its_reasoning_sealed_where_it_is_asked_for(token_server: Live) -> None:
    wanted = {"include": ["reasoning.encrypted_content"], "store": False}
    plain, sealed = reasoned(token_server), reasoned(token_server, **wanted)
    assert plain["encrypted_content"] is None
    text = plain["content"][0]["text"]
    seal = token_server.app.state.reasoning_seal
    assert sealed["content"] == plain["content"]
    assert seal.open("", sealed["encrypted_content"]) == text
    summed = reasoned(token_server, **wanted, reasoning={"summary": "auto"})
    assert summed["encrypted_content"] and summed["content"] == []


def test_hidden_reasoning_is_sealed_alone(token_server: Live) -> None:
    wanted = {"include": ["reasoning.encrypted_content"], "include_reasoning": False}
    found = reasoned(token_server, **wanted)
    assert (found["content"], found["summary"], found["status"]) == ([], [], "completed")
    seal = token_server.app.state.reasoning_seal
    sealed = reasoned(token_server)["content"][0]["text"]
    assert seal.open("", found["encrypted_content"]) == sealed
    body = {"input": "What is 12 * 3 + 4?", "stream": True, **wanted}
    text = token_server.http.post("/v1/responses", json=body).text
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert not any("reasoning" in event["type"] for event in events)
    items = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    assert [item["type"] for item in items] == ["reasoning", "message"]
    assert seal.open("", items[0]["encrypted_content"]) == sealed
    assert events[-1]["response"]["output"] == items


def test_thinking_that_is_left_out_is_in_its_signature(token_server: Live) -> None:
    def blocks(**fields: Any) -> list[Any]:
        body = {"max_tokens": 900, "messages": user(), **fields}
        found: list[Any] = token_server.http.post("/v1/messages", json=body).json()["content"]
        return found

    shown = blocks()
    hidden = blocks(thinking={"type": "adaptive", "display": "omitted"})
    assert (shown[0]["signature"], hidden[0]["thinking"]) == (UNSIGNED, "")
    seal = token_server.app.state.reasoning_seal
    assert seal.open("", hidden[0]["signature"]) == shown[0]["thinking"]


def test_another_key_s_reasoning_is_not_opened(tmp_path: Any) -> None:
    keys = write(
        tmp_path / "keys.yaml", {"name": "ada", "key": SECRET}, {"name": "bob", "key": OTHER}
    )
    body: dict[str, Any] = {"input": "Hello", "include": ["reasoning.encrypted_content"]}
    with serve(keys=keys) as live:

        def report(key: str, given: list[dict[str, Any]]) -> Any:
            fields = {"input": [*given, {"role": "assistant", "content": "x"}, *user()]}
            reply = live.http.post("/v1/responses", json=fields, headers=bearer(key))
            return reply.json()["budget"]["ignored_fields"]

        reply = live.http.post("/v1/responses", json=body, headers=bearer(SECRET)).json()
        given = [{**reply["output"][0], "content": []}]
        assert report(SECRET, given) == []
        assert report(OTHER, given) == ["input[0].encrypted_content"]


def test_replicas_with_one_key_open_each_other_s(tmp_path: Any) -> None:
    file = tmp_path / "key"
    file.write_text("one secret for all of us\n")
    first = Settings(engine="scripted", reasoning_key_file=file)
    second = Settings(engine="scripted", reasoning_key="one secret for all of us")
    third, fourth = Settings(engine="scripted"), Settings(engine="scripted")
    sealed = str(ReasoningSeal(first.reasoning_secret()).seal("", "so"))
    assert ReasoningSeal(second.reasoning_secret()).open("", sealed) == "so"
    for other in (third, fourth):
        assert ReasoningSeal(other.reasoning_secret()).open("", sealed) is None
    assert third.reasoning_secret() == third.reasoning_secret() != fourth.reasoning_secret()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"EXTRACOT_REASONING_KEY": "short"}, "at least 16 characters"),
        ({"EXTRACOT_REASONING_KEY_FILE": "/none"}, "reasoning_key_file /none"),
    ],
)
def test_a_wrong_key_is_one_line_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], words: str
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings(["--engine", "scripted"])
    assert words in str(caught.value) and "short" not in str(caught.value)


def test_the_key_is_no_flag() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(["--reasoning-key", "a secret of all of us"])
    assert "EXTRACOT_REASONING_KEY" in str(caught.value)
    assert "a secret" not in str(caught.value)


def test_what_is_opened_for_one_request_is_bounded() -> None:
    """A text of a MiB that repeats itself is sealed in a KiB, and a body may hold thousands."""
    long = str(SEAL.seal("", "a" * MAX_TEXT))
    reader = thoughts()
    parts = [{"type": "reasoning.encrypted", "data": long}] * 100
    ((_, text),) = reader.of_message({"reasoning_details": parts}, "m")
    most = MOST_OPENED // MAX_TEXT
    assert text.count("a") == most * MAX_TEXT
    assert reader.unread == [f"m.reasoning_details[{n}].data" for n in range(most, 100)]
