"""Anthropic's SDK: its tool runner and its threads, two turns. Run by test_anthropic.py."""

import json
import sys
from typing import Any, Literal

from anthropic import Anthropic, APIStatusError, beta_tool


def turn_of(messages: list[Any], results: list[Any]) -> dict[str, Any]:
    """What a user sees of one turn, whose replies are ``messages``."""
    blocks = [block for message in messages for block in message.content]
    counts = [m.usage for m in messages]
    return {
        "text": "".join(b.text for b in messages[-1].content if b.type == "text"),
        "calls": [[b.name, b.input] for b in blocks if b.type == "tool_use"],
        "results": results,
        "reasoning": [b.thinking for b in blocks if b.type == "thinking"],
        "usage": [sum(u.input_tokens for u in counts), sum(u.output_tokens for u in counts)],
        "reports": [message.to_dict().get("budget") for message in messages],
    }


def runner_turn(client: Anthropic, words: Any, messages: list[Any]) -> dict[str, Any]:
    """A turn by the tool runner; ``messages`` grows by what was said."""
    results = []

    @beta_tool
    def get_weather(city: Literal["Bern"]) -> str:
        """The weather in a city."""
        results.append(words["weather"])
        return str(words["weather"])

    runner = client.beta.messages.tool_runner(
        model="scripted",
        max_tokens=2048,
        system=words["system"],
        messages=messages,
        tools=[get_weather],
        stream=words["stream"],
        extra_body=words["body"],
    )
    replies = []
    for each in runner:
        reply = each.get_final_message() if words["stream"] else each
        replies.append(reply)
        messages.append({"role": "assistant", "content": reply.content})
        answer = runner.generate_tool_call_response()
        if answer is not None:
            messages.append(answer)
    return turn_of(replies, results[:1])


def thread_turns(client: Anthropic, words: Any) -> Any:
    """Two turns of a thread, without tools; or the error of its first request."""
    more = {"unsupported_request_behavior": words["unsupported"]} if words["unsupported"] else {}
    thread = client.beta.messages.thread(
        model="scripted", max_tokens=2048, system=words["system"], extra_body=words["body"], **more
    )
    try:
        return [
            turn_of([thread.send({"role": "user", "content": text})], [])
            for text in (words["ask"], words["then"])
        ]
    except APIStatusError as error:
        return {"status": error.status_code, "kind": type(error).__name__}


def play(words: Any) -> Any:
    """Two turns."""
    client = Anthropic(base_url=words["url"], api_key="none", max_retries=0)
    if words["way"] == "thread":
        return thread_turns(client, words)
    messages: list[Any] = [{"role": "user", "content": words["ask"]}]
    first = runner_turn(client, words, messages)
    messages.append({"role": "user", "content": words["then"]})
    return [first, runner_turn(client, words, messages)]


for line in sys.stdin:
    print(json.dumps(play(json.loads(line))), flush=True)
