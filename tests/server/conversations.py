"""Conversations for tests of what the three APIs accept: how they are written and sent."""

from __future__ import annotations

from typing import Any

from tests.server.live import Live

PATHS = {"messages": "/v1/messages", "input": "/v1/responses", "chat": "/v1/chat/completions"}
START, END = "<|im_start|>", "<|im_end|>\n"

ASKED = {"role": "user", "content": "Go on."}


def write_with(live: Live, template: str) -> None:
    """Prompts of this server are written by a template of Jinja's from now on."""
    from transformers.utils.chat_template_utils import render_jinja_template

    def apply(conversation: Any, **options: Any) -> str:
        texts, _ = render_jinja_template(
            conversations=[conversation],
            chat_template=template,
            tools=options.get("tools"),
            add_generation_prompt=True,
            bos_token="",
        )
        return str(texts[0])

    live.engine.tokenizer.apply_chat_template = apply


def post(live: Live, api: str, body: dict[str, Any]) -> Any:
    """The reply of an API to a small request."""
    limit = {"max_output_tokens": 40} if api == "input" else {"max_tokens": 40}
    return live.http.post(PATHS[api], json={"model": "scripted", **limit, **body})


def prompt(live: Live, api: str, said: Any, **fields: Any) -> str:
    """What the engine gets of a conversation."""
    reply = post(live, api, {("input" if api == "input" else "messages"): said, **fields})
    assert reply.status_code == 200, reply.text
    return str(live.engine.tokenizer.decode(live.engine.requests[-1].token_ids))


def error(live: Live, api: str, said: Any, **fields: Any) -> str:
    """The field and message of a refusal."""
    before = len(live.engine.requests)
    reply = post(live, api, {("input" if api == "input" else "messages"): said, **fields})
    assert reply.status_code == 400, reply.text
    assert len(live.engine.requests) == before
    told = reply.json()["error"]
    return f"{told['param']} {told['message']}" if "param" in told else str(told["message"])


def said(*roles: str) -> list[dict[str, Any]]:
    """One text a role, which says its place."""
    return [{"role": role, "content": f"{role}{n}."} for n, role in enumerate(roles)]


def turn(role: str, text: str) -> str:
    """As the scripted engine's template has it."""
    return f"{START}{role}\n{text}{END}"


def called(api: str, arguments: Any, call_id: str = "c1", name: str = "clock") -> dict[str, Any]:
    """A call of the assistant's."""
    if api == "input":
        call = {"call_id": call_id, "name": name, "arguments": arguments}
        return {"type": "function_call", **call}
    if api == "messages":
        use = {"type": "tool_use", "id": call_id, "name": name, "input": arguments}
        return {"role": "assistant", "content": [use]}
    function = {"name": name, "arguments": arguments}
    call = {"id": call_id, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def result(api: str, content: Any, call_id: str = "c1") -> dict[str, Any]:
    """What a tool said."""
    if api == "input":
        return {"type": "function_call_output", "call_id": call_id, "output": content}
    if api == "messages":
        block = {"type": "tool_result", "tool_use_id": call_id, "content": content}
        return {"role": "user", "content": [block]}
    return {"role": "tool", "tool_call_id": call_id, "content": content}


IMAGES = {
    "chat": {"type": "image_url", "image_url": {"url": "data:,"}},
    "input": {"type": "input_image", "image_url": "data:,"},
    "messages": {"type": "image", "source": {"type": "url", "url": "https://x"}},
}


def text_part(api: str, text: str, role: str = "user") -> dict[str, Any]:
    """A part that is text, in the words of the API."""
    kind = {"input": "input_text" if role == "user" else "output_text"}.get(api, "text")
    return {"type": kind, "text": text}
