"""openai-agents: two turns, a tool in the first. Run by test_openai_agents.py."""

import asyncio
import json
import sys
from typing import Any, Literal

from agents import (
    Agent,
    ItemHelpers,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from openai.types.shared import Reasoning

set_tracing_disabled(True)


def agent_of(words: Any) -> Agent:
    """An agent with a tool on the API asked for."""
    kind = {"chat": OpenAIChatCompletionsModel, "responses": OpenAIResponsesModel}[words["api"]]
    client = AsyncOpenAI(base_url=f"{words['url']}/v1", api_key="none", max_retries=0)
    settings = dict(words["settings"])
    if "reasoning" in settings:
        settings["reasoning"] = Reasoning(**settings["reasoning"])

    @function_tool
    def get_weather(city: Literal["Bern"]) -> str:
        """The weather in a city."""
        return str(words["weather"])

    return Agent(
        name="Assistant",
        instructions=words["system"],
        model=kind(model="scripted", openai_client=client),
        model_settings=ModelSettings(**settings),
        tools=[get_weather],
    )


def reasoning_of(item: Any) -> list[str]:
    """The texts that an item of reasoning shows: its summary and its content."""
    parts = [*(item.raw_item.summary or ()), *(item.raw_item.content or ())]
    return [part.text for part in parts]


async def turn(agent: Agent, items: Any, stream: bool) -> tuple[dict[str, Any], Any]:
    """What a user of the agent sees of one turn, and the items for the next."""
    shown: dict[str, str] = {}
    pieces = 1
    if stream:
        run: Any = Runner.run_streamed(agent, items)
        pieces = 0
        async for event in run.stream_events():
            if event.type != "raw_response_event":
                continue
            kind = event.data.type
            if kind.endswith(".delta"):
                shown[kind] = shown.get(kind, "") + event.data.delta
            pieces += kind == "response.output_text.delta"
    else:
        run = await Runner.run(agent, items)
    calls = [i.raw_item for i in run.new_items if i.type == "tool_call_item"]
    usage = run.context_wrapper.usage
    messages = [i for i in run.new_items if i.type == "message_output_item"]
    seen = {
        "text": run.final_output,
        "message": "".join(map(ItemHelpers.text_message_output, messages)),
        "pieces": pieces,
        "calls": [[call.name, json.loads(call.arguments)] for call in calls],
        "results": [i.output for i in run.new_items if i.type == "tool_call_output_item"],
        "reasoning": [reasoning_of(i) for i in run.new_items if i.type == "reasoning_item"],
        "shown": shown,
        "usage": [usage.input_tokens, usage.output_tokens],
        "reasoning_tokens": usage.output_tokens_details.reasoning_tokens,
    }
    return seen, run.to_input_list()


async def play(words: Any) -> list[dict[str, Any]]:
    """Two turns."""
    agent = agent_of(words)
    first, items = await turn(agent, words["ask"], words["stream"])
    then = [*items, {"role": "user", "content": words["then"]}]
    second, _ = await turn(agent, then, words["stream"])
    return [first, second]


for line in sys.stdin:
    print(json.dumps(asyncio.run(play(json.loads(line)))), flush=True)
