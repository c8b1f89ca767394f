"""LiteLLM as a library: two turns, a tool in the first. Run by test_litellm.py."""

import json
import sys
from typing import Any

import litellm

litellm.telemetry = False
# LiteLLM prints on standard output, which is for the answers here.
ANSWERS, sys.stdout = sys.stdout, sys.stderr

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Bern"]}},
    "required": ["city"],
}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": PARAMETERS,
    },
}


def completion(words: Any, messages: list[Any]) -> Any:
    """One reply, put together if it is streamed, and the number of its pieces."""
    chosen = {"model": words["model"], "api_base": words["base"], "api_key": words["key"]}
    reply = litellm.completion(
        **chosen,
        messages=messages,
        tools=[TOOL],
        stream=words["stream"],
        max_retries=0,
        **({"stream_options": {"include_usage": True}} if words["stream"] else {}),
        **words["settings"],
    )
    if not words["stream"]:
        return reply, 1
    chunks = list(reply)
    pieces = sum(bool(c.choices and c.choices[0].delta.content) for c in chunks)
    return litellm.stream_chunk_builder(chunks, messages=messages), pieces


def turn(words: Any, messages: list[Any]) -> dict[str, Any]:
    """What a user sees of one turn; ``messages`` grows by what was said."""
    seen: dict[str, Any] = {"calls": [], "results": [], "reasoning": [], "usage": [], "budget": []}
    while True:
        reply, pieces = completion(words, messages)
        message = reply.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        seen["reasoning"].append(getattr(message, "reasoning_content", None) or "")
        details = getattr(reply.usage, "completion_tokens_details", None)
        reasoning = details.reasoning_tokens if details else None
        counts = [reply.usage.prompt_tokens, reply.usage.completion_tokens, reasoning]
        seen["usage"].append(counts)
        seen["budget"].append(getattr(reply, "budget", None))
        for call in message.tool_calls or ():
            seen["calls"].append([call.function.name, json.loads(call.function.arguments)])
            seen["results"].append(words["weather"])
            answer = {"role": "tool", "tool_call_id": call.id, "content": words["weather"]}
            messages.append(answer)
        if not message.tool_calls:
            return {**seen, "text": message.content, "pieces": pieces}


def play(words: Any) -> list[dict[str, Any]]:
    """Two turns."""
    messages = [{"role": "system", "content": text} for text in words["system"]]
    turns = []
    for question in (words["ask"], words["then"]):
        messages.append({"role": "user", "content": question})
        turns.append(turn(words, messages))
    return turns


for line in sys.stdin:
    print(json.dumps(play(json.loads(line)), default=str), file=ANSWERS, flush=True)
