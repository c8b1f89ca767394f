"""Bodies and replies shown in the OpenAPI document. A test sends each body and compares each reply.

Replies are those of the scripted engine: real in form, their words made up. What anybody can GET
without a body is not shown.
"""

from __future__ import annotations

from typing import Any

from extracot.report import BudgetReport
from extracot_server.api.responses import schemas

QUESTION: list[dict[str, Any]] = [{"role": "user", "content": "What is 12 * 3 + 4?"}]
_ASKED = QUESTION[0]["content"]
_THOUGHT = "So the total is 12 plus 7, which is 19. Next we"
_ANSWER = "The answer is \\boxed{687}."
_BUDGET = BudgetReport(
    requested=0.2,
    source="budget",
    source_fields=["budget"],
    applied_ratio=0.2,
    expected_ratio=0.22,
    level="0.2",
    control_token="<COMP_20>",
    enforcement="token",
    exact=True,
    calibrated=True,
    max_tokens=4046,
    max_reasoning_tokens=3790,
    cap_reason="room",
    cap_hit=False,
    closed_by="model",
    unclosed=False,
    reasoning_tokens=19,
    grace_tokens=0,
    answer_tokens=9,
    overhead_tokens=8,
    injected_tokens=4,
    closing_tokens=0,
    baseline_tokens=100.0,
    baseline_source="card",
    realised_ratio=0.19,
    saved_tokens_estimate=81.0,
    baseline_total_tokens=109.0,
    total_saved_tokens_estimate=81.0,
    ignored_fields=[],
)
_REPORT = _BUDGET.as_object()
_SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}


_FILE: dict[str, Any] = {
    "id": "file-0123456789abcdef0123456789abcdef",
    "object": "file",
    "bytes": 1234,
    "created_at": 1_770_000_000,
    "expires_at": 1_772_592_000,
    "filename": "requests.jsonl",
    "purpose": "batch",
    "status": "processed",
}
_ENDS = ("finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
_BATCH: dict[str, Any] = {
    "id": "batch_0123456789abcdef0123456789abcdef",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "errors": None,
    "input_file_id": _FILE["id"],
    "completion_window": "24h",
    "status": "validating",
    "output_file_id": None,
    "error_file_id": None,
    "created_at": 1_770_000_060,
    "in_progress_at": None,
    "expires_at": 1_770_086_460,
    **{f"{status}_at": None for status in _ENDS},
    "request_counts": {"total": 0, "completed": 0, "failed": 0},
    "usage": {
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    },
    "metadata": None,
}


BODIES: dict[str, dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": {
        "a ratio": {"messages": QUESTION, "budget": 0.2},
        "a stream": {
            "budget": "auto",
            "messages": QUESTION,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
        "a ceiling": {
            "messages": [{"role": "system", "content": "Answer in one word."}, *QUESTION],
            "budget": {"ratio": 0.4, "max_reasoning_tokens": 300, "enforce": "hard"},
            "max_completion_tokens": 600,
            "n": 2,
            "seed": 7,
        },
        "json": {
            "messages": QUESTION,
            "reasoning_effort": "low",
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": _SCHEMA},
            },
        },
    },
    "/v1/responses": {
        "a ratio": {"input": _ASKED, "budget": 0.2},
        "an effort": {"input": _ASKED, "reasoning": {"effort": "low"}, "instructions": "Be brief."},
    },
    "/v1/messages": {
        "a ratio": {"max_tokens": 2048, "messages": QUESTION, "budget": 0.2},
        "a hard cap": {
            "max_tokens": 2048,
            "messages": QUESTION,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        },
    },
    "/v1/messages/count_tokens": {"a question": {"messages": QUESTION}},
    "/v1/tokenize": {
        "a text": {"prompt": _ASKED},
        "a ratio": {"messages": QUESTION, "budget": 0.2},
    },
    "/v1/batches": {
        "a day": {
            "input_file_id": _FILE["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
    },
}
"""Requests, by path and name."""


def _upstreams(state: str) -> dict[str, Any]:
    """Two upstreams, the second of them in this state."""
    shared = {"model": "Qwen3-8B", "reason": None, "weight": 1, "max_running": None}
    shared |= {"canary": False, "state": "serving", "drained_by": None}
    by = "call" if state == "draining" else None
    second = {"name": "gpu-2:8000", "url": "http://gpu-2:8000", "running": 3, "taken": 1204}
    data = [
        {**shared, "name": "gpu-1:8000", "url": "http://gpu-1:8000", "running": 9, "taken": 1310},
        {**shared, **second, "state": state, "drained_by": by},
    ]
    return {"object": "list", "data": data}


REPLIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1770000000,
        "model": "scripted",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": _ANSWER,
                    "refusal": None,
                    "reasoning": _THOUGHT,
                    "reasoning_content": _THOUGHT,
                },
                "logprobs": None,
                "finish_reason": "stop",
                "budget": _REPORT,
            }
        ],
        "usage": {
            "prompt_tokens": 43,
            "completion_tokens": 32,
            "total_tokens": 75,
            "completion_tokens_details": {"reasoning_tokens": 19},
        },
        "budget": _REPORT,
    },
    "/v1/responses": schemas.ResponseObject(
        id="resp_req-1",
        created_at=1770000000,
        completed_at=1770000001,
        status="completed",
        model="scripted",
        output=[
            schemas.ReasoningItem(
                id="rs_req-1_0", status="completed", content=[schemas.ReasoningText(text=_THOUGHT)]
            ),
            schemas.MessageItem(
                id="msg_req-1_1", status="completed", content=[schemas.OutputText(text=_ANSWER)]
            ),
        ],
        usage=schemas.ResponseUsage(
            input_tokens=43,
            output_tokens=32,
            output_tokens_details=schemas.OutputTokensDetails(reasoning_tokens=19),
            total_tokens=75,
        ),
        budget=_BUDGET,
    ).model_dump(),
    "/v1/messages": {
        "id": "msg_req-1",
        "type": "message",
        "role": "assistant",
        "model": "scripted",
        "content": [
            {"type": "thinking", "thinking": _THOUGHT, "signature": "bm90IHNpZ25lZA=="},
            {"type": "text", "text": _ANSWER},
        ],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 43,
            "output_tokens": 32,
            "output_tokens_details": {"thinking_tokens": 19},
        },
        "budget": {**_REPORT, "max_tokens": 2048, "max_reasoning_tokens": 1792},
    },
    "/v1/messages/count_tokens": {"input_tokens": 41},
    "/v1/tokenize": {
        "tokens": [1333, 682, 32, 49, 50, 32, 42, 32, 51, 274, 32, 52, 63],
        "count": 13,
        "prompt_tokens": 13,
        "max_model_len": 4096,
    },
    "/v1/files": _FILE,
    "/v1/batches": _BATCH,
    "/v1/batches/{batch_id}/cancel": {
        **_BATCH,
        "status": "cancelling",
        "in_progress_at": 1_770_000_060,
        "cancelling_at": 1_770_000_120,
    },
    "/v1/upstreams/{name}/drain": _upstreams("draining"),
    "/v1/upstreams/{name}/undrain": _upstreams("serving"),
}
"""Replies, each to the first body of its path."""

EVENTS: dict[str, str] = {
    "/v1/chat/completions": (
        'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770000000,'
        '"model":"scripted","choices":[{"index":0,"delta":{"content":"The"},"logprobs":null,'
        '"finish_reason":null}]}\n\n'
        ": here come more of them, and one with `finish_reason` and `budget`\n\n"
        "data: [DONE]\n\n"
    ),
    "/v1/responses": (
        "event: response.output_text.delta\n"
        'data: {"type":"response.output_text.delta","item_id":"msg_req-1_1","output_index":1,'
        '"content_index":0,"delta":"The","logprobs":[],"sequence_number":27}\n\n'
    ),
    "/v1/messages": (
        "event: content_block_delta\n"
        'data: {"type":"content_block_delta","index":1,'
        '"delta":{"type":"text_delta","text":"The"}}\n\n'
    ),
}
"""Parts of streams, by path."""
