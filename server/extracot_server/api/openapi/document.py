"""The OpenAPI document: FastAPI's description of the routes, completed.

That is headers, examples, streams, keys, and what this very server is set to (limits, efforts).
Knows routes by their path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from starlette.routing import BaseRoute

from extracot_server.api.chat.schemas import ChatCompletionChunk
from extracot_server.api.exchange import body_model
from extracot_server.api.openapi.errors import RATE_LIMITS, AnthropicError, Error, error_examples
from extracot_server.api.openapi.examples import BODIES, EVENTS, QUESTION, REPLIES
from extracot_server.config.settings import Settings
from extracot_server.model_registry.registry import AppState

REF = "#/components/schemas/{model}"
_HEADER = {"required": True, "schema": {"type": "string"}}
_REQUEST_ID = {
    "description": "the client's `x-request-id` if it is 1 to 128 of `A-Za-z0-9._:-`, or a new one",
    **_HEADER,
}
_BUDGET_HEADER = {
    "description": "JSON: the budget report as known before the first token",
    **_HEADER,
}
_ARM_HEADER = {
    "description": "which side served it; only for models that have a canary",
    "required": False,
    "schema": {"enum": ["stable", "canary"]},
}
_NAMED_EVENT = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"type": "string", "description": "the event's name again"}},
}
_CHUNK = {"anyOf": [{"$ref": REF.format(model=name)} for name in ("ChatCompletionChunk", "Error")]}
_STREAMS: dict[str, tuple[Mapping[str, Any], str]] = {
    "/v1/chat/completions": (
        _CHUNK,
        "One event. The last one is `[DONE]`, after an error, too; while nothing comes, comments "
        "(lines that begin with `:`) do",
    ),
    "/v1/responses": (
        _NAMED_EVENT,
        "One of the events of OpenAI's Responses API, numbered from 0, from `response.created` to "
        "`response.completed`, `response.incomplete` or `response.failed`",
    ),
    "/v1/messages": (
        _NAMED_EVENT,
        "One of the events of Anthropic's Messages API, from `message_start` to `message_stop`, or "
        "to an `error`",
    ),
}
"""What the data of each path's events is. As is usual before OpenAPI 3.2, the schema of a stream is
that of one event."""


def install_openapi(app: FastAPI) -> None:
    """Give the app a document that is complete."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            state: AppState = app.state.extracot
            schemas = schema["components"]["schemas"] = _schemas(app.routes)
            _describe_schemas(schemas, state.settings)
            _describe_operations(schema, state)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def _schemas(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """Every body and reply by name.

    FastAPI makes them, too, but turns bounds of integers into floats and leaves out what is null,
    and it knows neither errors nor chunks of streams.
    """
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (model, "serialization") for model in (ChatCompletionChunk, Error, AnthropicError)
    ]
    for route in routes:
        if isinstance(route, APIRoute):
            if isinstance(route.response_model, type):
                models.append((route.response_model, "serialization"))
            if route.body_field is not None:
                models.append((body_model(route), "validation"))
    _, found = models_json_schema(models, ref_template=REF)
    schemas: dict[str, Any] = found["$defs"]
    return schemas


def _describe_schemas(schemas: dict[str, Any], settings: Settings) -> None:
    """The limits of this server."""
    request = schemas["ChatCompletionRequest"]
    request["example"] = BODIES["/v1/chat/completions"]["a ratio"]
    fields = request["properties"]
    fields["n"]["anyOf"][0]["maximum"] = settings.max_choices
    fields["messages"] |= {"maxItems": settings.max_messages, "examples": [QUESTION]}
    efforts = [{"enum": list(settings.reasoning_effort_map)}, {"type": "null"}]
    fields["reasoning_effort"]["anyOf"] = efforts
    for name in ("Reasoning", "OutputConfig"):
        schemas[name]["properties"]["effort"]["anyOf"] = efforts


def _describe_operations(schema: dict[str, Any], state: AppState) -> None:
    schema["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "if the server has API keys"},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    asked: list[dict[str, list[str]]] = [{"key": []}, {"x-api-key": []}]
    for path, item in schema["paths"].items():
        guarded = path.startswith("/v1/") or (path == "/metrics" and state.settings.protect_metrics)
        for operation in item.values():
            responses = operation["responses"]
            responses.pop("422", None)  # FastAPI's own; here it is a 400
            if guarded:
                operation["security"] = asked if state.keys.required else [*asked, {}]
            else:
                responses.pop("401", None)
            for status, response in responses.items():
                response["headers"] = {"x-request-id": _REQUEST_ID, **response.get("headers", {})}
                _show_errors(path, int(status), response["content"])
            if path in REPLIES and "post" in item and operation is item["post"]:
                _show_examples(path, operation)


def _show_errors(path: str, status: int, content: dict[str, Any]) -> None:
    for kind in content.values():
        name = kind["schema"].get("$ref", "").rpartition("/")[2]
        if name in ("Error", "AnthropicError"):
            kind["examples"] = error_examples(status, anthropic=name == "AnthropicError")


def _show_examples(path: str, operation: dict[str, Any]) -> None:
    """Bodies, the reply to the first of them, and a stream where there is one.

    FastAPI would leave out whatever is null in them, where it says something.
    """
    if path in BODIES:
        body = operation["requestBody"]["content"]["application/json"]
        body["examples"] = {name: {"value": value} for name, value in BODIES[path].items()}
    reply = operation["responses"]["200"]
    reply["content"]["application/json"]["examples"] = {"a reply": {"value": REPLIES[path]}}
    if path in _STREAMS:
        schema, note = _STREAMS[path]
        data = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
        event = {"type": "object", "required": ["data"], "properties": {"data": data}}
        reply["headers"] |= {"x-extracot-budget": _BUDGET_HEADER, "x-extracot-arm": _ARM_HEADER}
        reply["headers"] |= RATE_LIMITS
        reply["content"]["text/event-stream"] = {
            "schema": {**event, "description": note},
            "examples": {"a stream": {"value": EVENTS[path]}},
        }
