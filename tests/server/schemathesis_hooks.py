"""What no schema can say of a chat, put right in bodies that Schemathesis means to be right.

Loaded by Schemathesis (``SCHEMATHESIS_HOOKS``). Each rule is in the field's description in the
document, and tested elsewhere; wrong bodies are left as they are.
"""

from __future__ import annotations

from typing import Any

import schemathesis

TOOL = {"type": "function", "function": {"name": "clock"}}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Mend a body, or a query, just before it is sent."""
    if case.meta.generation.mode.is_positive and case.path == "/v1/usage":
        # Moments are text of a certain form, the first before the last; other keys take an admin.
        case.query = {n: v for n, v in (case.query or {}).items() if n in ("by", "format")}
    if case.meta.generation.mode.is_positive and case.query:
        case.query.pop("after", None)  # an id of the list that it pages
    if case.meta.generation.mode.is_positive and "purpose" in fields_of(case):
        case.body = mended_upload(case.body)
    elif case.meta.generation.mode.is_positive and isinstance(case.body, dict):
        case.body = at_a_level(closed_in_words(case.body))
        if "responses" in case.path:
            case.body = mended_response(case.body)
        elif "/v1/messages" in case.path:
            case.body = mended_message(case.body)
        elif case.body.get("messages") is not None:
            case.body = mended(case.body)
        elif "model" in case.body:
            case.body = {**case.body, "model": None}


def fields_of(case: Any) -> Any:
    """The body as fields; none if it is no object."""
    return case.body if isinstance(case.body, dict) else ()


def mended_upload(body: dict[str, Any]) -> dict[str, Any]:
    """A file that is not empty; how long to keep it is said in two fields or in none."""
    # As text: Schemathesis takes a body with its own binary for a wrong one, once it was mended.
    kept: dict[str, Any] = {"file": "{}\n", "purpose": "batch"}
    names = ("expires_after[anchor]", "expires_after[seconds]")
    both = all(name in body for name in names)
    return kept | ({name: body[name] for name in names} if both else {})


def closed_in_words(body: dict[str, Any]) -> dict[str, Any]:
    """A closing has few tokens, none of them a control token."""
    budget = body.get("budget")
    if isinstance(budget, dict) and budget.get("closing"):
        return {**body, "budget": {**budget, "closing": "That will do."}}
    return body


def at_a_level(body: dict[str, Any]) -> dict[str, Any]:
    """A level is one of the card's, beside no ratio."""
    budget = body.get("budget")
    if isinstance(budget, dict) and budget.get("level") is not None:
        return {**body, "budget": {**budget, "level": "0.4", "ratio": None}}
    return body


def mended(body: dict[str, Any]) -> dict[str, Any]:
    """The body by the rules that hold between fields, and between messages."""
    # Of all names, one is served; functions have rules of their own (tests/server/test_tools*.py).
    body = {**body, "model": None, "tools": None, "tool_choice": None}
    first, *rest = [*body["messages"][:5], {"role": "user", "content": "What is 2 + 2?"}]
    first = {**first, "role": "user"} if first["role"] == "tool" else first
    later = [m if m["role"] == "assistant" else {**m, "role": "user"} for m in rest]
    body["messages"] = [spoken(message) for message in (first, *later)]
    if body.get("stream_options") is not None:
        body["stream"] = True
    if body.get("top_logprobs") is not None:
        body["logprobs"] = True
    if body.get("min_tokens") is not None:
        body["min_tokens"] = min(5, body["min_tokens"])
        for name in ("max_tokens", "max_completion_tokens"):
            body[name] = max(5, body.get(name) or 5)
    body["tools"], body["tool_choice"] = tools_of(body)
    if body["tools"]:
        body |= {"response_format": None, "logprobs": None, "top_logprobs": None}
    wanted = body.get("response_format")
    if wanted:
        schema = {"schema": SCHEMA} if wanted["type"] == "json_schema" else None
        body["response_format"] = {**wanted, "json_schema": schema}
    if body.get("logit_bias"):  # other ids are in no vocabulary
        body["logit_bias"] = {"1": next(iter(body["logit_bias"].values()))}
    return body


def tools_of(body: dict[str, Any]) -> tuple[Any, Any]:
    """A function to call, where any was given, and a choice that knows it."""
    if not body.get("tools"):
        return body.get("tools"), None
    choice = body.get("tool_choice")
    return [TOOL], choice if isinstance(choice, str) else None


def mended_response(body: dict[str, Any]) -> dict[str, Any]:
    """Names, items and functions of which the schema says too little."""
    body = {**body, "model": None, "tools": None, "tool_choice": None}
    if isinstance(body["input"], list):
        body["input"] = [{"role": "user", "content": "What is 2 + 2?"}]
    body["input"] = body["input"] or "hm"
    if not body.get("stream"):
        body["stream_options"] = None
    if body.get("text"):
        body["text"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
    return body


def mended_message(body: dict[str, Any]) -> dict[str, Any]:
    """The same, and a budget and thinking that agree."""
    body = {**body, "model": None, "tools": None, "tool_choice": None, "system": "Be brief."}
    body["messages"] = [{"role": "user", "content": "What is 2 + 2?"}]
    if body.get("stop_sequences"):
        body["stop_sequences"] = ["never"]
    if body.get("thinking"):
        body |= {"thinking": {"type": "enabled", "budget_tokens": 5}, "budget": None}
        if "max_tokens" in body:
            body["max_tokens"] = max(6, body["max_tokens"])
    if (body.get("output_config") or {}).get("format") is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
    return body


def spoken(message: dict[str, Any]) -> dict[str, Any]:
    """Only an assistant may have said nothing; no call has been made; reasoning has one name."""
    left_out = ("tool_calls", "reasoning_content", "reasoning_details")
    message = {key: value for key, value in message.items() if key not in left_out}
    if isinstance(message.get("content"), str) and "<think>" in message["content"]:
        message["reasoning"] = None
    if message["role"] == "tool":
        message["role"] = "user"
    content = message.get("content")
    text = content if isinstance(content, str) else "".join(p["text"] for p in content or ())
    said = {key: value for key, value in message.items() if key != "tool_calls"}
    return said if text else {**said, "content": "hm"}
