"""LlamaIndex: a function agent, two turns, a tool in the first. Run by test_llama_index.py."""

import asyncio
import json
import sys
from typing import Any, Literal

from llama_index.core.agent.workflow import AgentOutput, AgentStream, FunctionAgent, ToolCallResult
from llama_index.core.base.llms.types import ThinkingBlock
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.llms.openai import OpenAIResponses
from llama_index.llms.openai_like import OpenAILike


def model_of(words: Any) -> Any:
    """The model of the API asked for."""
    own = {"model": "scripted", "api_base": f"{words['url']}/v1", "api_key": "none"}
    more = {**own, "max_retries": 0, **words["settings"]}
    if words["api"] == "responses":
        return OpenAIResponses(context_window=100_000, **more)
    flags = {"is_chat_model": True, "is_function_calling_model": True}
    return OpenAILike(context_window=100_000, **flags, **more)


async def turn(agent: FunctionAgent, memory: Any, question: str) -> dict[str, Any]:
    """What a user of the agent sees of one turn."""
    run = agent.run(question, memory=memory)
    seen: dict[str, Any] = {"calls": [], "results": [], "reasoning": [], "pieces": 0}
    async for event in run.stream_events():
        if isinstance(event, ToolCallResult):
            seen["calls"].append([event.tool_name, event.tool_kwargs])
            seen["results"].append(str(event.tool_output.content))
        elif isinstance(event, AgentStream):
            seen["pieces"] += bool(event.delta)
        elif isinstance(event, AgentOutput):
            blocks = event.response.blocks
            thoughts = [b.content or "" for b in blocks if isinstance(b, ThinkingBlock)]
            seen["reasoning"].append("".join(thoughts))
    done = await run
    return {**seen, "text": done.response.content}


async def play(words: Any) -> list[dict[str, Any]]:
    """Two turns."""

    def get_weather(city: Literal["Bern"]) -> str:
        """The weather in a city."""
        return str(words["weather"])

    agent = FunctionAgent(
        tools=[get_weather],
        llm=model_of(words),
        system_prompt=words["system"][0],
        streaming=words["stream"],
    )
    before = [ChatMessage(role="system", content=text) for text in words["system"][1:]]
    memory = ChatMemoryBuffer.from_defaults(chat_history=before, token_limit=50_000)
    return [await turn(agent, memory, words[name]) for name in ("ask", "then")]


for line in sys.stdin:
    print(json.dumps(asyncio.run(play(json.loads(line)))), flush=True)
