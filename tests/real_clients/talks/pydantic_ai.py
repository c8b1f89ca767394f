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


def model(words: Any) -> Any:
    """The model of the API asked for."""
    if words["api"] == "messages":
        provider = AnthropicProvider(base_url=words["url"], api_key="none")
        return AnthropicModel("scripted", provider=provider)
    kind = {"chat": OpenAIChatModel, "responses": OpenAIResponsesModel}[words["api"]]
    return kind("scripted", provider=OpenAIProvider(base_url=f"{words['url']}/v1", api_key="none"))


def agent_of(words: Any) -> Agent:
    """An agent with a tool, and instructions from three places."""
    agent = Agent(
        model(words),
        system_prompt="You are terse.",
        instructions="Answer in English.",
        model_settings=words["settings"],
    )

    @agent.system_prompt
    def of_the_day() -> str:
        return "It is Monday."  # a message of its own

    @agent.tool_plain
    def get_weather(city: Literal["Bern"]) -> str:
        """The weather in a city."""
        return str(words["weather"])

    return agent


async def turn(
    agent: Agent, question: str, history: Any, stream: bool
) -> tuple[dict[str, Any], Any]:
    """What a user of the agent sees of one turn, and the history for the next."""
    if stream:
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


async def play(words: Any) -> list[dict[str, Any]]:
    """Two turns."""
    agent = agent_of(words)
    first, history = await turn(agent, words["ask"], None, words["stream"])
    second, _ = await turn(agent, words["then"], history, words["stream"])
    return [first, second]


for line in sys.stdin:
    print(json.dumps(asyncio.run(play(json.loads(line)))), flush=True)
