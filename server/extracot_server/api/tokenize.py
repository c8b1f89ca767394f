"""``POST /v1/tokenize``: token ids of a whole conversation or of plain text.

A conversation takes the same path as a chat request, budget included, so that what is counted is
what would be sent to the engine. Nothing is generated; a prompt that is too long is counted, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from extracot_server.api.auth import principal_of
from extracot_server.api.body import Body, ReplyModel, described_as, validated
from extracot_server.api.budget_words import read_words
from extracot_server.api.chat.request import ChatCompletionRequest, to_chat_request
from extracot_server.api.exchange import app_state, chat_request_of, read_json, tokenising
from extracot_server.api.openapi.errors import errors
from extracot_server.api.permits import take_permit
from extracot_server.errors import InvalidRequestError
from extracot_server.generation.prepare import render_only
from extracot_server.generation.request import ServedModel

router = APIRouter()


class TextToTokenize(Body):
    """The body with ``prompt``: text as it is inside a message, without a template."""

    model: str | None = Field(None, description="a served model's own name")
    prompt: str = Field(description="text as it is inside a message")
    messages: Annotated[Any, described_as(None)] = None
    budget: Annotated[Any, described_as(None)] = None
    reasoning_effort: Annotated[Any, described_as(None)] = None


class Tokens(ReplyModel):
    """The reply. `count` is the length of `tokens`: prompt and what is written of the reply;
    `prompt_tokens` of them are the prompt, as `usage` counts it."""

    tokens: list[int]
    count: int
    prompt_tokens: int
    max_model_len: int


_EITHER = [
    {"$ref": "#/components/schemas/ChatCompletionRequest"},
    TextToTokenize.model_json_schema(),
]


@router.post(
    "/v1/tokenize",
    response_description="Token ids",
    responses=errors(400, 401, 404, 413, 415, 429, 500),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"anyOf": _EITHER}}},
        }
    },
)
async def tokenize(request: Request) -> Tokens:
    """Token ids of `messages` (with a `budget`, if one is given) or of a `prompt`."""
    permit = take_permit(request, slot=False)
    body = await read_json(request)
    if body.get("prompt") is None and body.get("messages") is None:
        what = "is missing; a `prompt` can be sent in its place."
        raise InvalidRequestError.of("messages", what, "missing_required_parameter")
    work = _of_text if body.get("prompt") is not None else _of_messages
    tokens = await tokenising(request, work, request, body)
    permit.use(monotonic())
    return tokens


def _check_ids(model: ServedModel) -> None:
    """Raise :class:`InvalidRequestError` for a model whose tokens are not known here."""
    if model.offers is not None:
        raise InvalidRequestError(
            "This model is served by chat messages: its token ids are not known here.",
            param="model",
            code="unsupported_parameter",
        )


def _of_text(request: Request, body: dict[str, Any]) -> Tokens:
    wanted = validated(TextToTokenize, body)
    for name in ("messages", "budget", "reasoning_effort"):
        if getattr(wanted, name) is not None:
            raise InvalidRequestError.of(name, "cannot be combined with `prompt`.")
    for say in read_words(body, {}, {})[0]:
        what = "is a budget, and cannot be combined with `prompt`."
        raise InvalidRequestError.of(say.field, what)
    service, alias = app_state(request).find(wanted.model, principal_of(request))
    if alias is not None:
        raise InvalidRequestError("A budget cannot be combined with `prompt`.", param="model")
    _check_ids(service.model)
    ids = service.model.runtime.renderer.encode_text(wanted.prompt, "prompt")
    return _tokens(service.model, ids, ())


def _of_messages(request: Request, body: dict[str, Any]) -> Tokens:
    asked = ChatCompletionRequest.read({key: body[key] for key in body if key != "prompt"})
    service, chat = chat_request_of(request, asked, to_chat_request, engine_up=False)
    _check_ids(service.model)
    rendered = render_only(service.model, chat)
    return _tokens(service.model, rendered.prompt_ids, rendered.prefill_ids)


def _tokens(model: ServedModel, prompt: Sequence[int], prefill: Sequence[int]) -> Tokens:
    return Tokens(
        tokens=[*prompt, *prefill],
        count=len(prompt) + len(prefill),
        prompt_tokens=len(prompt),
        max_model_len=model.runtime.engine.info.max_model_len,
    )
