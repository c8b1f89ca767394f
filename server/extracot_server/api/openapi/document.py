"""The OpenAPI document: what FastAPI makes of the routes, and what it cannot see.

That is the schemas of bodies and replies, the fields that are refused, keys, and what this very
server is set to (limits, efforts). Knows routes by their path and what they say of themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from extracot_server.api.chat.body import ChatCompletionRequest
from extracot_server.api.chat.request import refused_fields
from extracot_server.api.messages.request import HARMLESS as MESSAGES_HARMLESS
from extracot_server.api.messages.request import REFUSED as MESSAGES_REFUSED
from extracot_server.api.messages.request import CountRequest, MessagesRequest
from extracot_server.api.openapi.adapter_schemas import ADAPTER_REPLIES
from extracot_server.api.openapi.examples import EXAMPLES, QUESTION
from extracot_server.api.openapi.routes import REF
from extracot_server.api.openapi.schemas import REPLIES
from extracot_server.api.responses.request import HARMLESS as RESPONSES_HARMLESS
from extracot_server.api.responses.request import REFUSED as RESPONSES_REFUSED
from extracot_server.api.responses.request import ResponsesRequest
from extracot_server.config.settings import Settings
from extracot_server.model_registry.registry import AppState

_Lists = tuple[Mapping[str, str], Mapping[str, tuple[Any, ...]]]
RESPONSES_LISTS: _Lists = (RESPONSES_REFUSED, RESPONSES_HARMLESS)
MESSAGES_LISTS: _Lists = (MESSAGES_REFUSED, MESSAGES_HARMLESS)


def install_openapi(app: FastAPI) -> None:
    """Give the app a document that also holds what is parsed by hand."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            state: AppState = app.state.extracot
            schemas |= _schemas(state.settings)
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            _describe_operations(schema, state)
            _restore_examples(schema, app.routes)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def _schemas(settings: Settings) -> dict[str, Any]:
    """Bodies and replies by name, with the limits of this server."""
    bodies = (ChatCompletionRequest, ResponsesRequest, MessagesRequest, CountRequest)
    every = [(shape, "validation") for shape in (*bodies, *REPLIES, *ADAPTER_REPLIES)]
    _, found = models_json_schema(every, ref_template=REF)  # type: ignore[arg-type]
    schemas: dict[str, Any] = found["$defs"]
    request = schemas["ChatCompletionRequest"]
    request["example"] = EXAMPLES["a ratio"]
    fields = request["properties"]
    _bound(fields["n"], "maximum", settings.max_choices)
    fields["messages"]["maxItems"] = settings.max_messages
    fields["messages"]["examples"] = [QUESTION]
    efforts = [{"enum": list(settings.reasoning_effort_map)}, {"type": "null"}]
    fields["reasoning_effort"]["anyOf"] = efforts
    for name in ("Reasoning", "OutputConfig"):
        schemas[name]["properties"]["effort"]["anyOf"] = efforts
    _add_refused(fields, refused_fields())
    _add_refused(schemas["ResponsesRequest"]["properties"], _listed(RESPONSES_LISTS))
    for name in ("MessagesRequest", "CountRequest"):
        _add_refused(schemas[name]["properties"], _listed(MESSAGES_LISTS))
    return schemas


def _listed(lists: _Lists) -> dict[str, tuple[tuple[Any, ...], str]]:
    refused, harmless = lists
    return {name: ((*harmless.get(name, ()), None), hint) for name, hint in refused.items()}


def _add_refused(
    fields: dict[str, Any], refused: Mapping[str, tuple[tuple[Any, ...], str]]
) -> None:
    """Fields of a closed list, each with the values by which it asks for nothing."""
    for name, (harmless, hint) in refused.items():
        text = f"not supported{'; ' + hint if hint else ''}: any other value is a 400"
        fields[name] = {"enum": list(harmless), "description": text, "deprecated": True}


def _bound(field: dict[str, Any], keyword: str, value: int) -> None:
    """Set a keyword on the part of an optional field that is not null."""
    for branch in field["anyOf"]:
        if branch.get("type") != "null":
            branch[keyword] = value


def _describe_operations(schema: dict[str, Any], state: AppState) -> None:
    components = schema["components"]
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "where keys are asked for"},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    asked: list[dict[str, list[str]]] = [{"key": []}, {"x-api-key": []}]
    for path, item in schema["paths"].items():
        guarded = path.startswith("/v1/") or (path == "/metrics" and state.settings.protect_metrics)
        for operation in item.values():
            operation["responses"].pop("422", None)  # FastAPI's own; here it is a 400
            if guarded:
                operation["security"] = asked if state.keys.required else [*asked, {}]
            else:
                operation["responses"].pop("401", None)


def _restore_examples(schema: dict[str, Any], routes: Sequence[BaseRoute]) -> None:
    """FastAPI leaves out whatever is null, in examples too, where it says something."""
    for route in routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        for method in route.methods:
            operation = schema["paths"][route.path_format][method.lower()]
            for status, response in route.responses.items():
                if found := operation["responses"].get(str(status)):
                    _copy_examples(response.get("content", {}), found["content"])
            asked = (route.openapi_extra or {}).get("requestBody", {})
            _copy_examples(
                asked.get("content", {}), operation.get("requestBody", {}).get("content")
            )


def _copy_examples(source: Mapping[str, Any], target: dict[str, Any]) -> None:
    for kind, content in source.items():
        if "examples" in content:
            target[kind]["examples"] = content["examples"]
