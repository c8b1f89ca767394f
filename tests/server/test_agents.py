"""Agents' loops with the official SDKs: three rounds of a tool, streamed, on a template that keeps
the reasoning of the chain that is going on.

What the model thought in the first round has to be in the prompt of the last one, and gone once the
user speaks again; the prompts are the ids that the engine was given.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.fixtures.agent_engine import ROUNDS, AgentEngine, thought
from tests.server.live import NO_RETRY, Live, serve

ASK = "How is the weather?"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CHAT_TOOL: Any = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}
TOOL: Any = {"type": "function", "name": "get_weather", "parameters": SCHEMA}


@pytest.fixture(scope="module", params=["closes its block", "calls in the open block"])
def served(request: pytest.FixtureRequest) -> Iterator[Live]:
    """A call in an open block ends it, as if the model had closed it."""
    engine = AgentEngine(forgets=request.param != "closes its block")
    with serve(on=engine, card="none", tool_parser="hermes") as server:
        yield server


@pytest.fixture
def live(served: Live) -> Live:
    """The same with no requests yet."""
    served.engine.requests.clear()
    return served


def weather(arguments: str) -> str:
    return f"It rains in {json.loads(arguments)['city']}."


def check_prompts(live: Live, rounds: int = ROUNDS) -> None:
    """Each prompt has the reasoning of all rounds before it, in place, and its results."""
    assert len(live.engine.requests) == rounds
    for number in range(rounds):
        prompt = live.engine.prompt(number)
        said = [
            f"<|im_start|>assistant\n<think>\n{thought(n)}\n</think>\n\n"
            for n in range(1, number + 1)
        ]
        assert [prompt.count(text) for text in said] == [1] * number
        assert prompt.count("This is what I think") == number
        assert prompt.count("It rains in City") == number
        places = [prompt.index(text) for text in said]
        assert places == sorted(places)


def check_next_turn(live: Live) -> None:
    """The user has spoken again: the template writes no earlier reasoning any more."""
    prompt = live.engine.prompt()
    assert prompt.count("<|im_start|>user") == 2 and "It rains in City 1" in prompt
    assert "This is what I think" not in prompt


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_chat(live: Live, name: str) -> None:
    """The client sends back what it was sent, as agents do whose model needs it."""
    messages: list[Any] = [{"role": "user", "content": ASK}]
    fields: Any = {"model": "scripted", "tools": [CHAT_TOOL]}
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", **NO_RETRY) as client:
        for _ in range(ROUNDS):
            with client.chat.completions.stream(messages=messages, **fields) as stream:
                said = stream.get_final_completion().choices[0].message
            calls = [
                call.model_dump(exclude={"parsed_arguments"}) for call in said.tool_calls or ()
            ]
            calls = [
                {**c, "function": {k: c["function"][k] for k in ("name", "arguments")}}
                for c in calls
            ]
            more = {"tool_calls": calls} if calls else {}
            sent = {"role": "assistant", "content": said.content, name: getattr(said, name), **more}
            messages.append(sent)
            for call in said.tool_calls or ():
                result = weather(call.function.arguments)
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        assert said.content == f"The answer of round {ROUNDS}."
        check_prompts(live)
        messages.append({"role": "user", "content": "Thanks."})
        client.chat.completions.create(messages=messages, **fields)
    check_next_turn(live)


@pytest.mark.parametrize("how", ["sealed", "sealed alone", "shown", "summary", "references"])
def test_responses(live: Live, how: str) -> None:
    """Items are sent back whole, without what can be read of the reasoning, or by their ids."""
    items: list[Any] = [{"role": "user", "content": ASK}]
    fields: Any = {"model": "scripted", "tools": [TOOL]}
    if how.startswith("sealed"):
        fields |= {"store": False, "include": ["reasoning.encrypted_content"]}
    if how == "summary":
        fields["reasoning"] = {"summary": "auto"}
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", **NO_RETRY) as client:
        for _ in range(ROUNDS):
            with client.responses.stream(input=items, **fields) as stream:
                reply = stream.get_final_response()
            for item in reply.output:
                items.append(sent_back(item.to_dict(), how))
                if item.type == "function_call":
                    output = weather(item.arguments)
                    answer = {"type": "function_call_output", "call_id": item.call_id}
                    items.append({**answer, "output": output})
        assert reply.output_text == f"The answer of round {ROUNDS}."
        check_prompts(live)
        items.append({"role": "user", "content": "Thanks."})
        last: Any = client.responses.create(input=items, **fields)
    assert last.budget["ignored_fields"] == []
    check_next_turn(live)


def sent_back(item: dict[str, Any], how: str) -> dict[str, Any]:
    if how == "references":
        return {"type": "item_reference", "id": item["id"]}
    item = {key: value for key, value in item.items() if not key.startswith("parsed")}
    if how == "sealed alone" and item["type"] == "reasoning":
        assert item["encrypted_content"] and thought(1) not in item["encrypted_content"]
        item["content"] = []
    return item


@pytest.mark.parametrize("display", ["summarized", "omitted"])
def test_messages(live: Live, display: str) -> None:
    """The SDK's tool runner keeps the blocks by itself; the thinking may be in its signature."""

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return weather(json.dumps({"city": city}))

    question: Any = {"role": "user", "content": ASK}
    fields: Any = {"model": "scripted", "max_tokens": 900}
    thinking: Any = {"type": "adaptive", "display": display}
    with anthropic.Anthropic(base_url=live.url, api_key="none", **NO_RETRY) as client:
        runner = client.beta.messages.tool_runner(
            tools=[get_weather], messages=[question], thinking=thinking, stream=True, **fields
        )
        blocks: list[Any] = []
        for stream in runner:
            blocks += stream.get_final_message().content
        shown = [block.thinking for block in blocks if block.type == "thinking"]
        wanted = [thought(n + 1) if display == "summarized" else "" for n in range(ROUNDS)]
        assert shown == wanted
        assert blocks[-1].text == f"The answer of round {ROUNDS}."
        check_prompts(live)


def test_a_reply_that_the_client_stripped_of_its_reasoning_is_taken_as_it_is(live: Live) -> None:
    calls: Any = [
        {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    ]
    live.chat(
        tools=[CHAT_TOOL],
        messages=[
            {"role": "user", "content": ASK},
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "c1", "content": "It rains in City 1."},
        ],
    )
    assert "<think>" not in live.engine.prompt()


def test_ids_of_items_are_the_same_through_a_stream_and_of_one_item_alone(live: Live) -> None:
    fields: Any = {"model": "scripted", "tools": [TOOL], "input": ASK, "stream": True}
    seen: set[str] = set()
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", **NO_RETRY) as client:
        for _ in range(2):
            events: list[Any] = list(client.responses.create(**fields))
            by_place: dict[int, set[str]] = {}
            for event in events:
                if (index := getattr(event, "output_index", None)) is not None:
                    item = getattr(event, "item", None)
                    found = item.id if item is not None else event.item_id
                    by_place.setdefault(index, set()).add(found)
            final = [item.id for item in events[-1].response.output]
            assert [by_place[at] for at in range(len(final))] == [{one} for one in final]
            kinds = [item.type for item in events[-1].response.output]
            assert kinds == ["reasoning", "function_call"]
            assert not seen & set(final)
            seen |= set(final)
