"""inspect-ai: its loop of a model and tools, two turns. Run by test_inspect_ai.py."""

import asyncio
import json
import sys
from typing import Any, Literal

from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    ContentReasoning,
    GenerateConfig,
    Model,
    get_model,
)
from inspect_ai.tool import Tool, tool


def model_of(words: Any) -> Model:
    """The model of the API asked for."""
    kind, url = words["model"], words["url"]
    base = url if kind.startswith("anthropic/") else f"{url}/v1"
    config = GenerateConfig(max_retries=0, **words["settings"])
    own = {"base_url": base, "api_key": "none", "memoize": False, **words["arguments"]}
    return get_model(kind, config=config, **own)


def reasoning_of(message: ChatMessageAssistant) -> str:
    """The reasoning that it keeps, or its summary."""
    parts = message.content if isinstance(message.content, list) else []
    thoughts = [part for part in parts if isinstance(part, ContentReasoning)]
    return "".join(part.reasoning or part.summary or "" for part in thoughts)


def weather_of(text: str) -> Tool:
    """The tool, with its answer."""

    @tool
    def get_weather() -> Tool:
        async def execute(city: Literal["Bern"]) -> str:
            """The weather in a city.

            Args:
                city: The city.
            """
            return text

        return execute

    return get_weather()


async def turn(model: Model, messages: list[Any], offered: Tool) -> dict[str, Any]:
    """What a user sees of one turn; ``messages`` grows by what was said."""
    new, output = await model.generate_loop(messages, tools=[offered])
    messages.extend(new)
    replies = [m for m in new if isinstance(m, ChatMessageAssistant)]
    usage = output.usage
    assert usage is not None
    return {
        "text": output.completion,
        "calls": [[c.function, c.arguments] for m in replies for c in m.tool_calls or ()],
        "results": [m.text for m in new if isinstance(m, ChatMessageTool)],
        "reasoning": [reasoning_of(m) for m in replies],
        "usage": [usage.input_tokens, usage.output_tokens, usage.reasoning_tokens],
    }


async def play(words: Any) -> list[dict[str, Any]]:
    """Two turns."""
    model, offered = model_of(words), weather_of(words["weather"])
    messages: list[Any] = [ChatMessageSystem(content=text) for text in words["system"]]
    turns = []
    for question in (words["ask"], words["then"]):
        messages.append(ChatMessageUser(content=question))
        turns.append(await turn(model, messages, offered))
    return turns


for line in sys.stdin:
    print(json.dumps(asyncio.run(play(json.loads(line)))), flush=True)
