"""pydantic-ai: one agent, two turns, a tool in the first. Run by test_pydantic_ai.py."""

import asyncio
import json
import sys
from typing import Any, Literal

from pydantic_ai import Agent
from pydantic_ai.messages import ThinkingPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

WORDS = json.loads(sys.argv[1])


def model() -> Any:
    """The model of the API asked for."""
    if WORDS["api"] == "messages":
        provider = AnthropicProvider(base_url=WORDS["url"], api_key="none")
        return AnthropicModel("scripted", provider=provider)
    kind = {"chat": OpenAIChatModel, "responses": OpenAIResponsesModel}[WORDS["api"]]
    return kind("scripted", provider=OpenAIProvider(base_url=f"{WORDS['url']}/v1", api_key="none"))


agent = Agent(
    model(),
    system_prompt="You are terse.",
    instructions="Answer in English.",
    model_settings=WORDS["settings"],
)


@agent.system_prompt
def of_the_day() -> str:
    """pydantic-ai sends each of these as a message of its own."""
    return "It is Monday."


@agent.tool_plain
def get_weather(city: Literal["Bern"]) -> str:
    """The weather in a city."""
    return WORDS["weather"]


async def turn(question: str, history: Any) -> tuple[dict[str, Any], Any]:
    """What a user of the agent sees of one turn, and the history for the next."""
    if WORDS["stream"]:
        async with agent.run_stream(question, message_history=history) as run:
            pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
            text, pieces_count = "".join(pieces), len(pieces)
            usage, messages, new = run.usage, run.all_messages(), run.new_messages()
    else:
        done = await agent.run(question, message_history=history)
        text, pieces_count = done.output, 1
        usage, messages, new = done.usage, done.all_messages(), done.new_messages()
    parts = [part for message in new for part in message.parts]
    seen = {
        "text": text,
        "pieces": pieces_count,
        "calls": [[p.tool_name, p.args_as_dict()] for p in parts if isinstance(p, ToolCallPart)],
        "results": [p.content for p in parts if isinstance(p, ToolReturnPart)],
        "reasoning": [p.content for p in parts if isinstance(p, ThinkingPart)],
        "usage": [usage.input_tokens, usage.output_tokens],
        "details": usage.details,
    }
    return seen, messages


async def main() -> None:
    """Two turns."""
    first, history = await turn(WORDS["ask"], None)
    second, _ = await turn(WORDS["then"], history)
    print(json.dumps([first, second]))


asyncio.run(main())
