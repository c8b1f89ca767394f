"""Codex itself, as its users run it in scripts: two turns on Responses, a tool of an MCP server."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.real_clients.environments import TALKS, Environment, environment
from tests.real_clients.recording import Recorded
from tests.real_clients.session import CONTROL, THEN, WEATHER

# The model's name for a tool of a namespace says both.
ASK = "Please use mcp__weather__get_weather for Bern."
RESPONSES = "/v1/responses"
SETTINGS = """\
model = "scripted"
model_provider = "extracot"
model_reasoning_effort = "{effort}"
model_reasoning_summary = "auto"
model_supports_reasoning_summaries = true
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.extracot]
name = "extracot"
base_url = "{url}/v1"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0

[mcp_servers.weather]
command = {python}
args = [{script}, {weather}]
default_tools_approval_mode = "approve"
"""


@pytest.fixture(scope="module")
def codex() -> Environment:
    return environment("codex")


class Session:
    """Codex in a folder of its own; its turns are one conversation."""

    def __init__(self, codex: Environment, server: Recorded, folder: Path, effort: str) -> None:
        self._codex, self._folder, self._more = codex, folder, ()
        script = str(TALKS / "mcp_weather.py")
        words = {"python": sys.executable, "script": script, "weather": WEATHER}
        quoted = {name: json.dumps(word) for name, word in words.items()}
        (folder / ".codex").mkdir()
        settings = SETTINGS.format(url=server.url, effort=effort, **quoted)
        (folder / ".codex" / "config.toml").write_text(settings)
        (folder / "work").mkdir()
        packages = codex.folder / "node_modules" / "@openai"
        (self._program,) = [p for p in packages.rglob("bin/codex") if p.is_file()]

    def turn(self, question: str) -> list[dict[str, Any]]:
        """The items that it shows, and the usage as the last."""
        command = [str(self._program), "exec", "--json", "--skip-git-repo-check"]
        work = self._folder / "work"
        out = self._codex.run(*command, *self._more, question, cwd=work, HOME=str(self._folder))
        self._more = ("resume", "--last")
        events = [json.loads(line) for line in out.splitlines()]
        assert events[-1]["type"] == "turn.completed", events
        items = [event["item"] for event in events if event["type"] == "item.completed"]
        return [*items, events[-1]["usage"]]


def of_type(items: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in items if item.get("type") == kind]


@pytest.mark.parametrize(("effort", "budgeted"), [("low", True), ("high", False)])
def test_two_turns_and_a_tool(
    codex: Environment, server: Recorded, tmp_path: Path, effort: str, budgeted: bool
) -> None:
    session = Session(codex, server, tmp_path, effort)
    first = session.turn(ASK)
    (call,) = of_type(first, "mcp_tool_call")
    assert (call["server"], call["tool"], call["arguments"]) == (
        "weather",
        "get_weather",
        {"city": "Bern"},
    )
    assert WEATHER in str(call["result"]) and call["status"] == "completed"
    assert "boxed" in of_type(first, "agent_message")[-1]["text"]
    second = session.turn(THEN)
    assert not of_type(second, "mcp_tool_call")
    assert "boxed" in of_type(second, "agent_message")[-1]["text"]
    for items in (first, second):
        assert of_type(items, "reasoning")[0]["text"].strip()
        usage = items[-1]
        assert 0 < usage["reasoning_output_tokens"] < usage["output_tokens"]

    sent = [e.body for e in server.posts(RESPONSES)]
    assert all(body["include"] == ["reasoning.encrypted_content"] for body in sent)
    roles = [item.get("role") for item in sent[-1]["input"]]
    assert roles.count("developer") > 1
    assert {"function", "namespace"} <= {tool["type"] for tool in sent[-1]["tools"]}
    assert all((CONTROL in prompt) == budgeted for prompt in server.prompts())
    last = server.prompts()[-1]
    assert last.index(ASK) < last.index(WEATHER) < last.index("boxed{") < last.rindex(THEN)
