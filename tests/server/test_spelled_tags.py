"""Models that talk about tags: where a tag is one id only the id is one, its spelling is text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine
from extracot_server.engine.scripted.tokenizer import ScriptedTokenizer
from tests.server.live import Live, collect, serve, user
from tests.server.test_tools import ASK, TOOLS

TOKENIZER = ScriptedTokenizer()
ADDED = TOKENIZER.get_added_vocab()
TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
START, END, OPEN, CLOSE = (ADDED[tag] for tag in TAGS)
CALL = '{"name": "clock", "arguments": {"zone": "Zürich"}}'


def spelled(text: str) -> list[int]:
    """The ids of a text, none of which is an added token."""
    ids = TOKENIZER.encode(text)
    if not set(ADDED.values()) & set(ids):
        return ids
    return list(text.encode())


def ids(*parts: str | int) -> tuple[int, ...]:
    """A reply: texts in ordinary tokens, and tags by their ids."""
    each = ([part] if isinstance(part, int) else spelled(part) for part in parts)
    return tuple(id_ for part in each for id_ in part)


class Said:
    """A server whose model says what a test wants."""

    def __init__(self, live: Live) -> None:
        self.live = live

    def says(self, reply: Sequence[int], **behaviour: Any) -> None:
        """Every reply goes on with these ids after its opening tag."""
        self.live.engine.behaviour = ScriptedBehaviour(says=tuple(reply), **behaviour)


@pytest.fixture(scope="module")
def said() -> Iterator[Said]:
    with serve(card="none", tool_parser="hermes") as live:
        yield Said(live)


REASONED = "The tag </think> ends it, and <think> begins it. So there."
TALK = f"{REASONED}\n\n"


def test_a_spelled_end_tag_is_reasoning(said: Said) -> None:
    said.says(ids(TALK, END, "\n\nIt is </think> by <think>"))
    for fields in ({}, {"budget": {"max_reasoning_tokens": 400}}):
        choice = said.live.chat(**fields)["choices"][0]
        assert choice["message"]["reasoning"] == REASONED
        assert choice["message"]["content"] == "It is </think> by <think>"
        assert choice["budget"]["closed_by"] == "model"
        assert collect(said.live.chunks(**fields))["message"] == choice["message"]


def test_a_cap_holds_whatever_is_spelled(said: Said) -> None:
    said.says(ids("I </think>", " think " * 150, END, "4"))
    for n in (1, 3):
        reply = said.live.chat(budget={"max_reasoning_tokens": 20}, n=n)
        for choice in reply["choices"]:
            report = choice["budget"]
            assert (report["cap_hit"], report["closed_by"]) == (True, "server")
            assert report["reasoning_tokens"] == 20
            assert choice["message"]["content"].startswith("The answer is")
            assert choice["message"]["reasoning"].startswith("I </think> think")


def test_all_three_apis_show_the_same(said: Said) -> None:
    said.says(ids(TALK, END, "4 </think> 5"))
    http = said.live.http
    body = {"model": "scripted", "input": "What?"}
    output = http.post("/v1/responses", json=body).json()["output"]
    assert output[0]["content"][0]["text"] == REASONED
    assert output[1]["content"][0]["text"] == "4 </think> 5"
    body = {"model": "scripted", "max_tokens": 900, "messages": user("What?")}
    content = http.post("/v1/messages", json=body).json()["content"]
    assert content[0]["thinking"] == REASONED
    assert content[1]["text"] == "4 </think> 5"


def test_a_json_answer_comes_after_the_whole_block(said: Said) -> None:
    said.says(ids(TALK, END, "not asked"))
    form = {"type": "json_object"}
    choice = said.live.chat(response_format=form)["choices"][0]
    assert choice["message"]["reasoning"] == REASONED
    assert isinstance(json.loads(choice["message"]["content"])["answer"], int)


def test_a_second_block_in_the_answer_is_reasoning_by_its_ids_alone(said: Said) -> None:
    said.says(
        ids("a", END, "One. <think> no.\n", START, "\nb </think>")
        + ids(" c", "\n", END, "\n\nTwo.")
    )
    choice = said.live.chat()["choices"][0]
    assert choice["message"]["content"] == "One. <think> no.\nTwo."
    assert choice["message"]["reasoning"] == "ab </think> c"
    assert (choice["budget"]["closed_by"], choice["budget"]["unclosed"]) == ("model", False)
    assert collect(said.live.chunks())["message"] == choice["message"]
    said.says(ids("a", END, "One. ", START, " so" * 100, END, "Two."))
    capped = said.live.chat(budget={"max_reasoning_tokens": 20})["choices"][0]
    assert capped["budget"]["reasoning_tokens"] == 20
    assert (capped["budget"]["cap_hit"], capped["budget"]["closed_by"]) == (True, "server")
    assert capped["message"]["content"].startswith("One. ")


def test_a_start_tag_inside_a_block_is_never_shown(said: Said) -> None:
    said.says(ids(START, "a ", START, "b", END, "4"))
    choice = said.live.chat()["choices"][0]
    assert (choice["message"]["reasoning"], choice["message"]["content"]) == ("a b", "4")


def called(choice: dict[str, Any]) -> list[tuple[str, Any]]:
    calls = choice["message"].get("tool_calls") or []
    return [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls]


def streamed_calls(live: Live, **fields: Any) -> list[tuple[str, Any]]:
    calls: list[list[str]] = []
    for chunk in live.chunks(**fields):
        for part in chunk["choices"][0]["delta"].get("tool_calls", ()):
            if "id" in part:
                calls.append([part["function"]["name"], ""])
            calls[part["index"]][1] += part["function"]["arguments"]
    return [(name, json.loads(arguments)) for name, arguments in calls]


CLOCK = [("clock", {"zone": "Zürich"})]


@pytest.mark.parametrize("size", [1, 3, 50])
@pytest.mark.parametrize(
    ("reply", "reasoning", "content", "calls"),
    [
        # A call that is spelled is talk of calls.
        (
            ids("Use <tool_call>", CALL, "</tool_call>", END, "Done."),
            f"Use <tool_call>{CALL}</tool_call>", "Done.", [],
        ),
        (
            ids("a", END, "Use <tool_call>", CALL, "</tool_call>"),
            "a", f"Use <tool_call>{CALL}</tool_call>", [],
        ),
        # A draft, by ids, that the reasoning goes on from, or that ends with its block.
        (
            ids("a ", OPEN, CALL, CLOSE, "\nNo.", END, "Done."),
            f"a <tool_call>{CALL}</tool_call>\nNo.", "Done.", [],
        ),
        (
            ids("a\n", OPEN, CALL, CLOSE, "\n", END, "\n\nDone."),
            f"a\n<tool_call>{CALL}</tool_call>", "Done.", [],
        ),
        # The same where the reply ends: the model has forgotten to close its block.
        (ids("a\n", OPEN, "\n", CALL, "\n", CLOSE), "a", None, CLOCK),
        (ids(OPEN, CALL, CLOSE, "\n"), None, None, CLOCK),
        (
            ids("a", *(OPEN, CALL, CLOSE, "\n") * 2),
            "a", None, CLOCK * 2,
        ),
        # And in the answer, where a string may hold what is spelled.
        (
            ids("a", END, "Well.\n", OPEN, '{"name": "clock", "arguments": {"zone"')
            + ids(': "</tool_call>"}}', CLOSE),
            "a", "Well.", [("clock", {"zone": "</tool_call>"})],
        ),
    ],
)  # fmt: skip
def test_calls_by_their_ids(
    said: Said,
    size: int,
    reply: tuple[int, ...],
    reasoning: str | None,
    content: str | None,
    calls: list[Any],
) -> None:
    said.says(reply, tokens_per_delta=size)
    for extra in (
        {},
        {"budget": {"max_reasoning_tokens": 300}},
        {"stop": ["never", "</tool_cal?"]},
    ):
        fields = {"messages": ASK, "tools": TOOLS, **extra}
        choice = said.live.chat(**fields)["choices"][0]
        assert (choice["message"]["reasoning"], choice["message"]["content"]) == (
            reasoning, content,
        )  # fmt: skip
        assert called(choice) == calls
        assert choice["finish_reason"] == ("tool_calls" if calls else "stop")
        assert streamed_calls(said.live, **fields) == calls
        whole = collect(said.live.chunks(**fields))
        assert whole["message"]["content"] == (content or "")
        assert whole["message"]["reasoning"] == reasoning
        assert whole["budget"] == choice["budget"]


def test_a_call_in_an_open_block_counts_as_answer(said: Said) -> None:
    said.says(ids("First we add", "\n", OPEN, CALL, CLOSE))
    reply = said.live.chat(messages=ASK, tools=TOOLS, n=2)
    for choice in reply["choices"]:
        report = choice["budget"]
        assert (report["closed_by"], report["unclosed"], report["cap_hit"]) == (
            "server", False, False,
        )  # fmt: skip
        assert report["reasoning_tokens"] == 3
        assert report["answer_tokens"] == len(ids(CALL)) + 2
        assert report["injected_tokens"] == len(TOKENIZER.encode("\n</think>\n\n"))
    total, usage = reply["budget"], reply["usage"]
    parts = total["reasoning_tokens"] + total["answer_tokens"] + total["overhead_tokens"]
    assert parts == usage["completion_tokens"] + total["injected_tokens"]
    body = {"model": "scripted", "messages": ASK, "max_tokens": 900}
    body["tools"] = [{"name": "clock", "input_schema": {"type": "object"}}]
    message = said.live.http.post("/v1/messages", json=body).json()
    assert [block["type"] for block in message["content"]] == ["thinking", "tool_use"]
    assert message["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    "draft",
    [
        (OPEN, CALL),  # its tag was never closed
        (OPEN, CALL[:-2], CLOSE),
        (OPEN, '{"name": "clock", "arguments": {zone}}', CLOSE),
        (OPEN, '{"name": "clock", "arguments": [1]}', CLOSE),
        (OPEN, "{}", CLOSE),
        (OPEN, CLOSE),
        (OPEN, f"{CALL} so", CLOSE),
    ],
)
def test_what_is_no_complete_call_is_reasoning(said: Said, draft: tuple[str | int, ...]) -> None:
    said.says(ids("a ", *draft))
    choice = said.live.chat(messages=ASK, tools=TOOLS)["choices"][0]
    assert choice["message"]["reasoning"] == TOKENIZER.decode(ids("a ", *draft))
    # The block is closed and the model asked for its answer: here, the call that it makes then.
    assert choice["budget"]["closed_by"] == "server"
    assert [name for name, _ in called(choice)] == ["get_weather"]


@pytest.mark.parametrize("ends", [True, False])
def test_a_call_that_is_held_never_breaks_a_cap(said: Said, ends: bool) -> None:
    """Calls are no reasoning however long; drafts are, and are cut where they would be."""
    said.says(ids("a ", OPEN, CALL, CLOSE, *(() if ends else (" so",))))
    fields = {"messages": ASK, "tools": TOOLS, "budget": {"max_reasoning_tokens": 10}}
    choice = said.live.chat(**fields)["choices"][0]
    report = choice["budget"]
    if ends:
        assert called(choice) == CLOCK
        assert report["cap_hit"] is False and report["reasoning_tokens"] < 10
    else:
        assert report["cap_hit"] is True and report["reasoning_tokens"] == 10
        assert choice["message"]["reasoning"] == TOKENIZER.decode(ids("a ", OPEN, CALL)[:10])


def test_where_call_tags_are_text_their_spelling_counts() -> None:
    """And so it does for think tags: a model without such ids has no other way to write them."""
    text = ScriptedTokenizer(tags_as_text=True)
    for reply, reasoning, calls in (
        (f"a <tool_call>{CALL}</tool_call>", "a", CLOCK),
        (f"a < b <tool_cal <tool_call>{CALL}</tool_call> so</think>4", None, []),
        (f"a</think>\n<tool_call>{CALL}</tool_call>", "a", CLOCK),
    ):
        says = tuple(text.encode(reply))
        for size in (1, 4, 100):
            behaviour = ScriptedBehaviour(tags_as_text=True, says=says, tokens_per_delta=size)
            with serve(on=ScriptedEngine(behaviour), card="none", tool_parser="hermes") as live:
                choice = live.chat(messages=ASK, tools=TOOLS)["choices"][0]
                shown = choice["message"]["reasoning"]
                assert shown == (reasoning or reply.partition("</think>")[0])
                assert called(choice) == calls


PARTS = st.lists(
    st.sampled_from(TAGS).map(lambda tag: [ADDED[tag]])
    | st.sampled_from(
        [*TAGS, CALL, "</", "<", " so", "\n", "a", "🙂", "<tool_", "call>"]
    ).map(spelled),
    max_size=12,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=PARTS, size=st.integers(1, 9), cap=st.integers(1, 30), tools=st.booleans())
def test_any_mix_of_ids_and_spellings(
    said: Said, parts: list[list[int]], size: int, cap: int, tools: bool
) -> None:
    """The cap holds, counts add up, no id of a think tag is shown, streams and deltas agree."""
    says = tuple(id_ for part in parts for id_ in part)
    fields: dict[str, Any] = {"messages": ASK, "budget": {"max_reasoning_tokens": cap}}
    if tools:
        fields["tools"] = TOOLS
    said.says(says)
    reply = said.live.chat(**fields)
    choice, report, usage = reply["choices"][0], reply["budget"], reply["usage"]
    assert report["reasoning_tokens"] <= cap
    total = report["reasoning_tokens"] + report["answer_tokens"] + report["overhead_tokens"]
    assert total == usage["completion_tokens"] + report["injected_tokens"]
    shown = (choice["message"]["reasoning"] or "") + (choice["message"]["content"] or "")
    literal = TOKENIZER.decode([i for i in says if i not in (ADDED["<think>"], ADDED["</think>"])])
    for tag in TAGS[:2]:
        assert shown.count(tag) <= literal.count(tag)
    said.says(says, tokens_per_delta=size)
    streamed = collect(said.live.chunks(**fields))
    assert streamed["budget"] == report
    assert streamed["message"]["reasoning"] == choice["message"]["reasoning"]
    assert streamed["message"]["content"] == (choice["message"]["content"] or "")
