"""The scripted model's use of tools, in the format of the Hermes models.

It calls, once each and in order, the offered tools whose names stand in the user's last message,
with the smallest arguments their schemas allow; once a tool has answered it calls none. Knows
nothing of token ids.
"""

from __future__ import annotations

import json
import re

from extracot_server.engine.scripted.json_value import SchemaError, minimal_instance
from extracot_server.engine.scripted.tokenizer import CALL_END, CALL_START, TOOLS_END, TOOLS_START


def scripted_calls(system: str, problem: str) -> str:
    """The calls to make about a problem, as text; empty where no tool is offered and named.

    >>> scripted_calls('<tools>\\n{"function": {"name": "now"}}\\n</tools>', "Call now.")
    '<tool_call>\\n{"name": "now", "arguments": {}}\\n</tool_call>'
    """
    _, opened, listed = system.rpartition(f"{TOOLS_START}\n")
    if not opened:
        return ""
    calls = []
    for line in listed.rpartition(f"\n{TOOLS_END}")[0].split("\n"):
        try:
            function = json.loads(line)["function"]
        except (ValueError, KeyError, TypeError):  # a system prompt that only looks like it
            continue
        if not re.search(rf"(?<![\w.-]){re.escape(function['name'])}(?![\w-])", problem):
            continue
        try:
            arguments = minimal_instance(function.get("parameters") or {})
        except SchemaError:
            arguments = {}
        call = {"name": function["name"], "arguments": arguments}
        calls.append(f"{CALL_START}\n{json.dumps(call, ensure_ascii=False)}\n{CALL_END}")
    return "\n".join(calls)
