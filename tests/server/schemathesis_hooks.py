"""What no schema can say of a chat, put right in bodies that Schemathesis means to be right.

Loaded by Schemathesis (``SCHEMATHESIS_HOOKS``). Each rule is in the field's description in the
document, and tested elsewhere; wrong bodies are left as they are.
"""

from __future__ import annotations

from typing import Any

import schemathesis

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Mend a body just before it is sent."""
    if case.meta.generation.mode.is_positive and isinstance(case.body, dict):
        if case.body.get("messages") is not None:
            case.body = mended(case.body)
        elif "model" in case.body:
            case.body = {**case.body, "model": None}


def mended(body: dict[str, Any]) -> dict[str, Any]:
    """The body by the rules that hold between fields, and between messages."""
    body = {**body, "model": None}  # of all names, one is served
    first, *rest = [*body["messages"][:5], {"role": "user", "content": "What is 2 + 2?"}]
    later = [{**m, "role": "user"} if m["role"] in ("system", "developer") else m for m in rest]
    body["messages"] = [spoken(message) for message in (first, *later)]
    if body.get("top_logprobs") is not None:
        body["logprobs"] = True
    if body.get("min_tokens") is not None:
        body["min_tokens"] = min(5, body["min_tokens"])
        for name in ("max_tokens", "max_completion_tokens"):
            body[name] = max(5, body.get(name) or 5)
    wanted = body.get("response_format")
    if wanted and wanted["type"] == "json_schema":
        body["response_format"] = {**wanted, "json_schema": {"schema": SCHEMA}}
    return body


def spoken(message: dict[str, Any]) -> dict[str, Any]:
    """Only an assistant may have said nothing."""
    content = message.get("content")
    text = content if isinstance(content, str) else "".join(p["text"] for p in content or ())
    return message if text else {**message, "content": "hm"}
