"""What FastAPI cannot see, because bodies are parsed by hand: schemas and errors of the chat."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from extracot_server.accounting import BudgetReport
from extracot_server.api.bodies import ChatCompletionRequest

_REF = "#/components/schemas/{model}"
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_REPLY = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices", "usage", "budget"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "chat.completion"},
        "created": {"type": "integer"},
        "model": {"type": "string"},
        "choices": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["index", "message", "finish_reason", "budget"],
                "properties": {
                    "index": {"type": "integer"},
                    "message": {
                        "type": "object",
                        "required": ["role", "content"],
                        "properties": {
                            "role": {"const": "assistant"},
                            "content": {"type": "string"},
                            "reasoning": {"type": ["string", "null"]},
                            "reasoning_content": {"type": ["string", "null"]},
                        },
                    },
                    "logprobs": {"type": ["object", "null"]},
                    "finish_reason": {"enum": ["stop", "length"]},
                    "budget": {"$ref": _REF.format(model="BudgetReport")},
                },
            },
        },
        "usage": {
            "type": "object",
            "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
            "properties": {
                "prompt_tokens": {"type": "integer"},
                "completion_tokens": {"type": "integer"},
                "total_tokens": {"type": "integer"},
                "completion_tokens_details": {
                    "type": "object",
                    "properties": {"reasoning_tokens": {"type": "integer"}},
                },
            },
        },
        "budget": {"$ref": _REF.format(model="BudgetReport")},
    },
}


def error_response(text: str) -> dict[str, Any]:
    """An OpenAPI response with OpenAI's error body."""
    schema = {"$ref": _REF.format(model="Error")}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


CHAT_DOCUMENTATION: dict[str, Any] = {
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": _REF.format(model="ChatCompletionRequest")},
                    "example": {
                        "messages": [{"role": "user", "content": "What is 12 * 3?"}],
                        "budget": 0.2,
                    },
                }
            },
        }
    },
    "responses": {
        200: {
            "description": "The reply: JSON, or server-sent events with `stream: true`",
            "headers": {
                "x-extracot-budget": {
                    "description": "JSON: what is known of the budget before the first token",
                    "schema": {"type": "string"},
                },
                "x-request-id": {"schema": {"type": "string"}},
            },
            "content": {
                "application/json": {"schema": {"$ref": _REF.format(model="ChatCompletion")}},
                "text/event-stream": {"schema": {"type": "string"}},
            },
        },
        400: error_response("The request is wrong; `param` names the field"),
        401: error_response("No key, or a wrong one"),
        404: error_response("No model of that name, or none for this key"),
        413: error_response("The body is too large"),
        500: error_response("The server failed"),
        429: error_response("This key has sent too many; `Retry-After` says when to come again"),
        503: error_response("The queue is full, or the engine is not available; `Retry-After`"),
    },
}


TOKENIZE_DOCUMENTATION: dict[str, Any] = {
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "anyOf": [
                            {"$ref": _REF.format(model="ChatCompletionRequest")},
                            {
                                "type": "object",
                                "required": ["prompt"],
                                "properties": {
                                    "model": {"type": ["string", "null"]},
                                    "prompt": {"type": "string"},
                                },
                            },
                        ]
                    },
                    "example": {
                        "messages": [{"role": "user", "content": "What is 12 * 3?"}],
                        "budget": 0.2,
                    },
                }
            },
        }
    },
    "responses": {
        400: error_response("The request is wrong; `param` names the field"),
        401: error_response("No key, or a wrong one"),
        404: error_response("No model of that name, or none for this key"),
        413: error_response("The body is too large"),
    },
}


def install_openapi(app: FastAPI) -> None:
    """Give the app a document that also holds the hand-parsed bodies."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            _, request = models_json_schema(
                [(ChatCompletionRequest, "validation")], ref_template=_REF
            )
            report = TypeAdapter(BudgetReport).json_schema(ref_template=_REF)
            schemas.update(request.get("$defs", {}))
            schemas.update(report.pop("$defs", {}))
            schemas |= {"BudgetReport": report, "ChatCompletion": _REPLY, "Error": _ERROR}
            key = {"type": "http", "scheme": "bearer", "description": "where keys are asked for"}
            schema["components"]["securitySchemes"] = {"key": key}
            for path, item in schema["paths"].items():
                if path.startswith("/v1/"):
                    for operation in item.values():
                        operation["security"] = [{"key": []}, {}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way
