"""Bodies and replies shown in the OpenAPI document. A test sends each body and compares each reply.

Replies are those of the scripted engine: real in form, their words made up.
"""

from __future__ import annotations

from typing import Any

QUESTION: list[dict[str, Any]] = [{"role": "user", "content": "What is 12 * 3 + 4?"}]
_THOUGHT = "So the total is 12 plus 7, which is 19. Next we"
_REPORT = {
    "requested": 0.2,
    "source": "budget",
    "applied_ratio": 0.2,
    "expected_ratio": 0.22,
    "level": "0.2",
    "control_token": "<COMP_20>",
    "enforcement": "token",
    "calibrated": True,
    "chosen": None,
    "chosen_probability": None,
    "max_tokens": 4046,
    "max_reasoning_tokens": 3790,
    "cap_reason": "room",
    "cap_hit": False,
    "closed_by": "model",
    "unclosed": False,
    "reasoning_tokens": 19,
    "answer_tokens": 9,
    "overhead_tokens": 8,
    "injected_tokens": 4,
    "baseline_tokens": 100.0,
    "baseline_source": "card",
    "realised_ratio": 0.19,
    "saved_tokens_estimate": 81.0,
    "arm": None,
    "ignored_fields": [],
}
_SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
}

BODIES: dict[str, dict[str, Any]] = {
    "a ratio": {"messages": QUESTION, "budget": 0.2},
    "a stream": {
        "model": "scripted@auto",
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
    "a text": {"prompt": QUESTION[0]["content"]},
}
"""Requests: all but the last one are chats."""

_LEVELS = [
    {
        "name": name,
        "control_token": token,
        "ratio": ratio,
        "expected_ratio": expected,
        "allowed_by_policy": True,
    }
    for name, token, ratio, expected in (
        ("0.2", "<COMP_20>", 0.2, 0.22),
        ("0.4", "<COMP_40>", 0.4, 0.41),
        ("0.6", "<COMP_60>", 0.6, 0.6),
        ("0.8", "<COMP_80>", 0.8, 0.79),
        ("1.0", "<COMP_100>", 1.0, 1.0),
    )
]
_ALLOWED = ["a number in (0, 1]", "native", "none", "auto"]
_ALIASES = ("0.2", "0.4", "0.6", "0.8", "1", "auto", "native", "none")
_ARM = {"requests": 0, "mean_reasoning_tokens": None, "left_out": 0}
_HEAD = (
    '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770000000,"model":"scripted"'
)

REPLIES: dict[str, Any] = {
    "a reply": {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1770000000,
        "model": "scripted",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "The answer is \\boxed{687}.",
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
    "ids": {
        "tokens": [1333, 682, 32, 49, 50, 32, 42, 32, 51, 274, 32, 52, 63],
        "count": 13,
        "prompt_tokens": 13,
        "max_model_len": 4096,
    },
    "a model": {
        "id": "scripted@0.2",
        "object": "model",
        "created": 1770000000,
        "owned_by": "extracot",
        "root": "scripted",
        "parent": "scripted",
        "max_model_len": 4096,
        "budget": {
            "mode": "token",
            "allowed": _ALLOWED,
            "levels": _LEVELS,
            "aliases": [f"scripted@{alias}" for alias in _ALIASES],
        },
    },
    "what it saves": {
        "object": "budget",
        "model": "scripted",
        "mode": "token",
        "allowed": _ALLOWED,
        "levels": _LEVELS,
        "policy": {
            "default": "native",
            "floor": None,
            "ceiling": None,
            "reasoning_tokens_ceiling": None,
            "answer_reserve_tokens": 256,
            "reasoning_effort": {
                "none": "none",
                "minimal": 0.2,
                "low": 0.4,
                "medium": 0.6,
                "high": 0.8,
                "xhigh": 1.0,
                "max": "native",
            },
        },
        "baseline": {
            "source": "card",
            "assumed_reasoning_tokens": None,
            "measured_reasoning_tokens": None,
        },
        "holdout": {
            "fraction": 0.0,
            "since": 1770000000,
            "arms": {"budgeted": _ARM, "holdout": _ARM},
            "saving_per_reply": None,
            "confidence": 0.95,
            "against_baseline": {
                "replies": 0,
                "saved": 0.0,
                "overspent": 0.0,
                "net_per_reply": None,
            },
        },
        "card": None,
    },
    "alive": {"status": "ok"},
    "ready": {"status": "ready", "models": {"scripted": "ready"}},
    "down": {"status": "engine down", "models": {"scripted": "engine down"}},
    "metrics": 'extracot_requests_total{model="scripted",budget="0.2",source="budget",'
    'outcome="stop"} 1.0\n',
    "events": f'data: {_HEAD},"choices":[{{"index":0,"delta":{{"role":"assistant","content":""}},'
    '"logprobs":null,"finish_reason":null}]}\n\n'
    f'data: {_HEAD},"choices":[{{"index":0,"delta":{{"reasoning":"So","reasoning_content":"So"}},'
    '"logprobs":null,"finish_reason":null}]}\n\n'
    f'data: {_HEAD},"choices":[{{"index":0,"delta":{{"content":"The"}},'
    '"logprobs":null,"finish_reason":null}]}\n\n'
    ": here come more of them, and one with `finish_reason` and `budget`\n\n"
    "data: [DONE]\n\n",
}
"""Replies; `GET /v1/budget` is shown without its card."""
EXAMPLES: dict[str, Any] = {**BODIES, **REPLIES}
