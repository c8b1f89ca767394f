"""LangChain: an agent (langgraph), two turns, a tool in the first. Run by test_langchain.py."""

import json
import sys
from typing import Any, Literal

from langchain.agents import create_agent
from langchain.tools import tool
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI


def model_of(words: Any) -> Any:
    """The model of the API asked for."""
    more = words["settings"]
    if words["api"] == "messages":
        return ChatAnthropic(model="scripted", base_url=words["url"], api_key="none", **more)
    responses = words["api"] == "responses"
    url = f"{words['url']}/v1"
    return ChatOpenAI(
        model="scripted", base_url=url, api_key="none", use_responses_api=responses, **more
    )


def reasoning_of(message: AIMessage) -> str:
    """The reasoning, as LangChain shows it for every model."""
    blocks = [b for b in message.content_blocks if b["type"] == "reasoning"]
    return "".join(block.get("reasoning", "") for block in blocks)


def turn(agent: Any, messages: list[BaseMessage], stream: bool) -> tuple[dict[str, Any], Any]:
    """What a user of the agent sees of one turn, and the messages for the next."""
    before, pieces = len(messages), 1
    if stream:
        pieces, after = 0, []
        for mode, part in agent.stream({"messages": messages}, stream_mode=["messages", "values"]):
            pieces += mode == "messages" and bool(part[0].text)
            after = part["messages"] if mode == "values" else after
    else:
        after = agent.invoke({"messages": messages})["messages"]
    new = after[before:]
    replies = [m for m in new if isinstance(m, AIMessage)]
    seen = {
        "text": replies[-1].text,
        "pieces": pieces,
        "calls": [[c["name"], c["args"]] for m in replies for c in m.tool_calls],
        "results": [m.text for m in new if isinstance(m, ToolMessage)],
        "reasoning": [reasoning_of(m) for m in replies],
        "usage": [m.usage_metadata for m in replies],
        "metadata": [m.response_metadata for m in replies],
    }
    return seen, after


def play(words: Any) -> list[dict[str, Any]]:
    """Two turns."""

    @tool
    def get_weather(city: Literal["Bern"]) -> str:
        """The weather in a city."""
        return str(words["weather"])

    agent = create_agent(model_of(words), tools=[get_weather], system_prompt=words["system"][0])
    # A system message of the history: the agent's own prompt comes before it.
    messages: list[Any] = [SystemMessage(text) for text in words["system"][1:]]
    first, messages = turn(agent, [*messages, ("user", words["ask"])], words["stream"])
    second, _ = turn(agent, [*messages, ("user", words["then"])], words["stream"])
    return [first, second]


for line in sys.stdin:
    print(json.dumps(play(json.loads(line)), default=str), flush=True)
