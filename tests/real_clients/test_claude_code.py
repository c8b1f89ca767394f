"""Claude Code itself, as its users run it in scripts: two turns, a tool of an MCP server."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.real_clients.environments import TALKS, Environment, environment
from tests.real_clients.recording import Recorded
from tests.real_clients.session import CONTROL, THEN, WEATHER

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
TOOL = "mcp__weather__get_weather"
ASK = f"Please use {TOOL} for Bern."
PROGRAM = "node_modules/@anthropic-ai/claude-code-linux-x64/claude"


@pytest.fixture(scope="module")
def claude() -> Environment:
    return environment("claude-code")


class Session:
    """Claude Code in a folder of its own; its turns are one conversation."""

    def __init__(self, claude: Environment, server: Recorded, folder: Path) -> None:
        self._claude, self._folder, self._id = claude, folder, ""
        self._variables = {
            "HOME": str(folder),
            "ANTHROPIC_BASE_URL": server.url,
            "ANTHROPIC_API_KEY": "none",
            "ANTHROPIC_MODEL": "scripted",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            # Else tools of MCP servers come only after a call of ToolSearch, which the scripted
            # engine would not think of.
            "ENABLE_TOOL_SEARCH": "false",
        }
        weather = {"command": sys.executable, "args": [str(TALKS / "mcp_weather.py"), WEATHER]}
        (folder / "mcp.json").write_text(json.dumps({"mcpServers": {"weather": weather}}))
        (folder / "work").mkdir()

    def turn(self, question: str, *more: str) -> list[dict[str, Any]]:
        """The events that it prints."""
        command = [str(self._claude.folder / PROGRAM), "--print", question, *more]
        command += ["--output-format", "stream-json", "--verbose", "--allowedTools", TOOL]
        command += ["--strict-mcp-config", "--mcp-config", str(self._folder / "mcp.json")]
        command += ["--resume", self._id] if self._id else []
        out = self._claude.run(*command, cwd=self._folder / "work", **self._variables)
        events: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
        self._id = events[-1]["session_id"]
        return events


def blocks_of(events: list[dict[str, Any]], role: str, kind: str) -> list[dict[str, Any]]:
    messages = [event["message"] for event in events if event["type"] == role]
    blocks = [block for m in messages if isinstance(m["content"], list) for block in m["content"]]
    return [block for block in blocks if block["type"] == kind]


def test_two_turns_and_a_tool(claude: Environment, server: Recorded, tmp_path: Path) -> None:
    session = Session(claude, server, tmp_path)
    first = session.turn(ASK)
    (call,) = blocks_of(first, "assistant", "tool_use")
    assert (call["name"], call["input"]) == (TOOL, {"city": "Bern"})
    (result,) = blocks_of(first, "user", "tool_result")
    assert WEATHER in str(result["content"])
    assert "boxed" in first[-1]["result"] and not first[-1]["is_error"]
    second = session.turn(THEN)
    assert "boxed" in second[-1]["result"] and not second[-1]["is_error"]
    assert not blocks_of(second, "assistant", "tool_use")
    usage = second[-1]["usage"]
    assert 0 < usage["output_tokens"] < usage["input_tokens"]

    sent = [e.body for e in server.posts(MESSAGES)]
    assert all("context_management" in body and body["stream"] for body in sent)
    roles = {message["role"] for body in sent for message in body["messages"]}
    assert roles == {"user", "assistant", "system"}
    last = server.prompts()[-1]
    assert last.index(ASK) < last.index(WEATHER) < last.index("boxed{") < last.rindex(THEN)


@pytest.mark.parametrize(("effort", "budgeted"), [("low", True), ("high", False)])
def test_its_effort_is_the_budget(
    claude: Environment, server: Recorded, tmp_path: Path, effort: str, budgeted: bool
) -> None:
    events = Session(claude, server, tmp_path).turn(THEN, "--effort", effort)
    assert "boxed" in events[-1]["result"]
    sent = [e.body for e in server.posts(MESSAGES)]
    assert {body["output_config"]["effort"] for body in sent} == {effort}
    assert all((CONTROL in prompt) == budgeted for prompt in server.prompts())
