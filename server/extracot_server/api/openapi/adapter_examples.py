"""Bodies and replies of the Responses and the Messages API, shown in the OpenAPI document.

Replies are those of the scripted engine; a test asks for them.
"""

from __future__ import annotations

from typing import Any

from extracot_server.api.openapi.examples import QUESTION
from extracot_server.api.openapi.examples import REPLIES as CHAT_REPLIES

_ASKED = QUESTION[0]["content"]
_CHAT = CHAT_REPLIES["a reply"]
_REPORT = _CHAT["budget"]
_SAID = _CHAT["choices"][0]["message"]

BODIES: dict[str, dict[str, dict[str, Any]]] = {
    "ResponsesRequest": {
        "a ratio": {"input": _ASKED, "budget": 0.2},
        "an effort": {"input": _ASKED, "reasoning": {"effort": "low"}, "instructions": "Be brief."},
    },
    "MessagesRequest": {
        "a ratio": {"max_tokens": 2048, "messages": QUESTION, "budget": 0.2},
        "a hard cap": {
            "max_tokens": 2048,
            "messages": QUESTION,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        },
    },
    "CountRequest": {"a question": {"messages": QUESTION}},
}
"""By schema and name."""

_RESPONSE = {
    "id": "resp_req-1",
    "object": "response",
    "created_at": 1770000000,
    "completed_at": 1770000001,
    "status": "completed",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "model": "scripted",
    "output": [
        {
            "id": "rs_req-1_0",
            "type": "reasoning",
            "status": "completed",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": _SAID["reasoning"]}],
        },
        {
            "id": "msg_req-1_1",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [
                {
                    "type": "output_text",
                    "text": _SAID["content"],
                    "annotations": [],
                    "logprobs": [],
                }
            ],
        },
    ],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": False,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "usage": {
        "input_tokens": _CHAT["usage"]["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": _CHAT["usage"]["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": _REPORT["reasoning_tokens"]},
        "total_tokens": _CHAT["usage"]["total_tokens"],
    },
    "user": None,
    "budget": _REPORT,
}
_MESSAGE = {
    "id": "msg_req-1",
    "type": "message",
    "role": "assistant",
    "model": "scripted",
    "content": [
        {"type": "thinking", "thinking": _SAID["reasoning"], "signature": ""},
        {"type": "text", "text": _SAID["content"]},
    ],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": _CHAT["usage"]["prompt_tokens"],
        "output_tokens": _CHAT["usage"]["completion_tokens"],
        "output_tokens_details": {"thinking_tokens": _REPORT["reasoning_tokens"]},
    },
    "budget": {**_REPORT, "max_tokens": 2048, "max_reasoning_tokens": 1792},
}
REPLIES: dict[str, dict[str, Any]] = {
    "ResponseObject": _RESPONSE,
    "MessageObject": _MESSAGE,
    "InputTokens": {"input_tokens": 41},
}
"""By schema, each the answer to the first body of its endpoint."""

EVENTS: dict[str, str] = {
    "ResponseObject": (
        "event: response.output_text.delta\n"
        'data: {"type":"response.output_text.delta","item_id":"msg_req-1_1","output_index":1,'
        '"content_index":0,"delta":"The","logprobs":[],"sequence_number":27}\n\n'
    ),
    "MessageObject": (
        "event: content_block_delta\n"
        'data: {"type":"content_block_delta","index":1,'
        '"delta":{"type":"text_delta","text":"The"}}\n\n'
    ),
}
"""One event of a stream."""
