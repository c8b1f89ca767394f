"""``POST /v1/tokenize``: the ids a prompt becomes here, of a whole conversation or of plain text.

A conversation takes the very path of a chat request, budget included, so that what is counted is
what would be sent to the engine. Nothing is generated; a prompt that is too long is counted, too.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from extracot.errors import PromptError
from extracot_server.api.auth import caller_of
from extracot_server.api.bodies import Body, parse_json_object, validated
from extracot_server.api.documentation import TOKENIZE_DOCUMENTATION
from extracot_server.api.exchange import read_body, tokenising
from extracot_server.api.protocol import read_chat_request, to_job
from extracot_server.api.shapes import Tokens
from extracot_server.api.state import AppState, app_state
from extracot_server.errors import InvalidRequestError
from extracot_server.keys import Caller
from extracot_server.preparation import render_only

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
    body, caller = parse_json_object(raw), caller_of(request)
    work = _of_text if body.get("prompt") is not None else _of_messages
    return await tokenising(len(raw), work, state, caller, body)


def _of_text(state: AppState, caller: Caller, body: dict[str, Any]) -> Tokens:
    wanted = validated(TextToTokenize, body)
    for name in ("messages", "budget", "reasoning_effort"):
        if body.get(name) is not None:
            raise InvalidRequestError(f"`{name}` does not go with `prompt`.", param=name)
    service, alias = state.find(wanted.model, caller)
    if alias is not None:
        raise InvalidRequestError("A budget does not go with `prompt`.", param="model")
    tools = service.model.tools
    try:
        ids = tools.renderer.encode_text(wanted.prompt)
    except PromptError as error:
        raise PromptError(str(error), field="prompt") from None
    size = tools.engine.info.max_model_len
    return Tokens(tokens=ids, count=len(ids), prompt_tokens=len(ids), max_model_len=size)


def _of_messages(state: AppState, caller: Caller, body: dict[str, Any]) -> Tokens:
    asked = read_chat_request({key: value for key, value in body.items() if key != "prompt"})
    service, alias = state.find(asked.model, caller)
    job = to_job(
        asked,
        request_id="tokenize",
        alias=alias,
        caller=caller,
        max_messages=state.settings.max_messages,
        max_choices=state.settings.max_choices,
    )
    rendered = render_only(service.model, job)
    ids = list(rendered.token_ids)
    return Tokens(
        tokens=ids,
        count=len(ids),
        prompt_tokens=len(rendered.prompt_ids),
        max_model_len=service.model.tools.engine.info.max_model_len,
    )
