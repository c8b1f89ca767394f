"""A tool server of the Model Context Protocol, over standard input: one tool, get_weather."""

import json
import sys

TOOL = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "inputSchema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Bern"]}},
        "required": ["city"],
    },
}


def answer(method: str, params: dict) -> dict:
    """The result of a request."""
    if method == "initialize":
        own = {"capabilities": {"tools": {}}, "serverInfo": {"name": "weather", "version": "1"}}
        return {"protocolVersion": params["protocolVersion"], **own}
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": sys.argv[1]}]}
    return {}


for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked:
        result = answer(asked["method"], asked.get("params") or {})
        reply = {"jsonrpc": "2.0", "id": asked["id"], "result": result}
        print(json.dumps(reply), flush=True)
