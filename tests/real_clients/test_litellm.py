"""LiteLLM in front of this server: as a library, with its bridges, and as a gateway."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.real_clients.environments import Environment, Talk, environment
from tests.real_clients.recording import Recorded
from tests.real_clients.session import (
    ASK,
    BUDGET,
    CALL,
    SYSTEM,
    THEN,
    WEATHER,
    WORDS,
    check_prompts,
    check_turns,
)
from tests.server.live import wait_for

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
BODY = {"extra_body": {"budget": BUDGET}}
SECONDS_TO_START = 120.0
KEY = "sk-of-the-gateway"
WAYS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "openai": ("openai/scripted", "/v1", CHAT, BODY),
    "hosted_vllm": ("hosted_vllm/scripted", "/v1", CHAT, {"budget": BUDGET}),
    "bridge to responses": (
        "openai/responses/scripted",
        "/v1",
        RESPONSES,
        {"reasoning_effort": {"effort": "low", "summary": "auto"}},
    ),
    "anthropic": ("anthropic/scripted", "", MESSAGES, {"budget": BUDGET}),
}


@pytest.fixture(scope="module")
def made() -> Environment:
    return environment("litellm")


@pytest.fixture(scope="module")
def client(made: Environment) -> Iterator[Talk]:
    with made.talking("litellm.py") as talk:
        yield talk


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("way", WAYS)
def test_the_library(client: Talk, server: Recorded, way: str, stream: bool) -> None:
    model, base, path, settings = WAYS[way]
    own = {"base": server.url + base, "system": SYSTEM, "settings": settings}
    turns = client(**WORDS, **own, model=model, key="none", stream=stream)
    check_turns(turns)
    check_prompts(server, system=SYSTEM)
    assert len(server.posts(path)) == 3
    for turn in turns:
        assert (turn["pieces"] > 1) == stream
        assert all(text.strip() for text in turn["reasoning"])
        assert all(0 < reasoning < written < read for read, written, reasoning in turn["usage"])


@pytest.fixture(scope="module")
def gateway(made: Environment, module_server: Recorded) -> Iterator[str]:
    """LiteLLM's proxy; its model is this server's, by chat, as ``chat``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    upstream = {"api_base": f"{module_server.url}/v1", "api_key": "none"}
    named = {"chat": "openai/scripted", "vllm": "hosted_vllm/scripted"}
    models = [
        {
            "model_name": name,
            "litellm_params": {"model": model, **upstream},
            "model_info": {"supports_reasoning": True},  # else a budget is refused by LiteLLM
        }
        for name, model in named.items()
    ]
    config = made.folder / "config.yaml"
    own = {"master_key": KEY}
    config.write_text(yaml.safe_dump({"model_list": models, "general_settings": own}))
    url = f"http://127.0.0.1:{port}"
    command = [str(made.folder / "bin" / "litellm"), "--config", str(config), "--port", str(port)]

    def answers() -> bool:
        assert (why := ended()) is None, why
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/health/liveliness").status_code == 200
        return False

    with made.running(*command, "--host", "127.0.0.1") as ended:
        wait_for(answers, SECONDS_TO_START)
        yield url


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_gateway_by_chat(client: Talk, server: Recorded, gateway: str, stream: bool) -> None:
    own = {"base": f"{gateway}/v1", "system": SYSTEM, "settings": BODY}
    turns = client(**WORDS, **own, model="openai/chat", key=KEY, stream=stream)
    check_turns(turns)
    check_prompts(server, system=SYSTEM)
    assert all((turn["pieces"] > 1) == stream for turn in turns)
    assert all(text.strip() for turn in turns for text in turn["reasoning"])


@pytest.mark.parametrize("model", ["chat", "vllm"])
def test_the_gateway_by_messages(server: Recorded, gateway: str, model: str) -> None:
    city = {"type": "string", "enum": ["Bern"]}
    schema = {"type": "object", "properties": {"city": city}, "required": ["city"]}
    tool = {"name": "get_weather", "description": "The weather.", "input_schema": schema}
    messages: list[Any] = [{"role": "user", "content": ASK}]

    def reply() -> list[dict[str, Any]]:
        body = {"model": model, "max_tokens": 2048, "tools": [tool], "messages": messages}
        thinking = {"type": "enabled", "budget_tokens": 1024}
        headers = {"x-api-key": KEY}
        sent = {**body, "thinking": thinking}
        answer = httpx.post(f"{gateway}{MESSAGES}", json=sent, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        blocks: list[dict[str, Any]] = answer.json()["content"]
        messages.append({"role": "assistant", "content": blocks})
        return blocks

    (call,) = [block for block in reply() if block["type"] == "tool_use"]
    assert [call["name"], call["input"]] == CALL
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": WEATHER}
    messages.append({"role": "user", "content": [result]})
    assert "boxed" in reply()[-1]["text"]
    messages.append({"role": "user", "content": THEN})
    assert "boxed" in reply()[-1]["text"]
    assert len(server.posts(RESPONSES) + server.posts(CHAT)) == 3
    last = server.prompts()[-1]
    assert last.index(ASK) < last.index(WEATHER) < last.index("boxed{") < last.index(THEN)
