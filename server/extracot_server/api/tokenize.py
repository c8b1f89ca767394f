"""``POST /v1/tokenize``: the ids a prompt becomes here, of a whole conversation or of plain text.

A conversation takes the very path of a chat request, budget included, so that what is counted is
what would be sent to the engine. Nothing is generated; a prompt that is too long is counted, too.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from extracot.errors import PromptError
from extracot_server.admission.keys import Principal
from extracot_server.api.auth import principal_of
from extracot_server.api.chat.body import Body, parse_json_object, validated
from extracot_server.api.chat.request import read_chat_request, to_chat_request
from extracot_server.api.exchange import app_state, read_body, tokenising
from extracot_server.api.openapi.routes import TOKENIZE_DOCUMENTATION
from extracot_server.api.openapi.schemas import Tokens
from extracot_server.errors import InvalidRequestError
from extracot_server.generation.prepare import render_only
from extracot_server.model_registry.registry import AppState

router = APIRouter()


class TextToTokenize(Body):
    """The body with ``prompt``: text as it is inside a message, without a template."""

    model: str | None = None
    prompt: str


@router.post("/v1/tokenize", response_model=Tokens, **TOKENIZE_DOCUMENTATION)
async def tokenize(request: Request) -> Tokens:
    """Token ids of `messages` (with a `budget`, if one is given) or of a `prompt`."""
    state = app_state(request)
    raw = await read_body(request, state.settings.max_body_bytes)
    body, principal = parse_json_object(raw), principal_of(request)
    work = _of_text if body.get("prompt") is not None else _of_messages
    return await tokenising(len(raw), work, state, principal, body)


def _of_text(state: AppState, principal: Principal, body: dict[str, Any]) -> Tokens:
    wanted = validated(TextToTokenize, body)
    for name in ("messages", "budget", "reasoning_effort"):
        if body.get(name) is not None:
            raise InvalidRequestError(f"`{name}` does not go with `prompt`.", param=name)
    service, alias = state.find(wanted.model, principal)
    if alias is not None:
        raise InvalidRequestError("A budget does not go with `prompt`.", param="model")
    tools = service.model.runtime
    try:
        ids = tools.renderer.encode_text(wanted.prompt)
    except PromptError as error:
        raise PromptError(str(error), field="prompt") from None
    size = tools.engine.info.max_model_len
    return Tokens(tokens=ids, count=len(ids), prompt_tokens=len(ids), max_model_len=size)


def _of_messages(state: AppState, principal: Principal, body: dict[str, Any]) -> Tokens:
    asked = read_chat_request({key: value for key, value in body.items() if key != "prompt"})
    service, alias = state.find(asked.model, principal)
    chat_request = to_chat_request(
        asked,
        request_id="tokenize",
        alias=alias,
        principal=principal,
        max_messages=state.settings.max_messages,
        max_choices=state.settings.max_choices,
    )
    rendered = render_only(service.model, chat_request)
    ids = list(rendered.token_ids)
    return Tokens(
        tokens=ids,
        count=len(ids),
        prompt_tokens=len(rendered.prompt_ids),
        max_model_len=service.model.runtime.engine.info.max_model_len,
    )
