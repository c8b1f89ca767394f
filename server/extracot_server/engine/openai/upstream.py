"""One OpenAI-compatible server over HTTP, asked by chat messages.

Connections, retries of a send, silence and quarantine are those of a vLLM server
(:mod:`extracot_server.engine.remote.upstream`); what is asked, and what it says, differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
from pydantic import BaseModel, ValidationError

from extracot_server.engine.base import EngineInfo, GenerationRequest
from extracot_server.engine.openai.arrivals import ChatArrivals
from extracot_server.engine.openai.turn import ChatTurn
from extracot_server.engine.remote.bounded import error_body
from extracot_server.engine.remote.catalog import ModelCard, UpstreamMismatchError, check_answer
from extracot_server.engine.remote.upstream import Upstream
from extracot_server.engine.remote.wire import UpstreamFailure, Wire, read_error
from extracot_server.trace_context import trace_headers

UNKNOWN_CONTEXT = 131_072
"""The context of a model whose server does not say: what does not fit, the server refuses."""
_NO_SUCH_PATH = (404, 405)
_OF_THE_REQUEST = (403, 404)
"""Of a key that has listed the models: services say so of one request, for its content or for what
no server of theirs does. One that was taken for lost would be lost to everybody else, too."""


class _Meta(BaseModel):
    n_ctx_train: int | None = None


class _Listed(BaseModel):
    """An entry of ``/v1/models``, with what servers add to it."""

    id: str
    root: str | None = None
    parent: str | None = None
    owned_by: str | None = None
    max_model_len: int | None = None
    context_length: int | None = None
    meta: _Meta | None = None


class _List(BaseModel):
    data: list[_Listed]


class _Slot(BaseModel):
    n_ctx: int


class _Properties(BaseModel):
    """llama.cpp's ``/props``: the context of each of its slots."""

    default_generation_settings: _Slot
    build_info: str = "unknown"


class ChatUpstream(Upstream):
    """A server that takes ``POST /v1/chat/completions``.

    ``context`` is what the settings say of the model's context, ``wanted`` the model that is asked
    for where the server has no list; ``owner`` is whose its models are, as far as it tells.
    """

    context: int | None = None
    wanted: str | None = None
    owner: str | None = None
    _properties: _Properties | None = None

    def is_healthy(self, status: int) -> bool:
        """Hosted servers have no ``/health``; that they answer has to do."""
        return status < 500

    def is_lost(self, failure: UpstreamFailure) -> bool:
        """As for any upstream, but that some statuses are of one request only."""
        return failure.down and failure.status not in _OF_THE_REQUEST

    async def models(self) -> list[ModelCard]:
        """What it serves, each with a context; raises as for any upstream."""
        response = await self._get("/v1/models")
        check_answer(response.status_code, response.headers.get("location"), self.url)
        if response.status_code >= 500 or response.status_code == 429:
            raise UpstreamFailure(f"it answered with status {response.status_code}", down=True)
        if response.status_code in _NO_SUCH_PATH and self.wanted is not None:
            return [ModelCard(id=self.wanted, max_model_len=self.context or UNKNOWN_CONTEXT)]
        try:
            listed = _List.model_validate_json(response.content).data
        except ValidationError:
            raise UpstreamMismatchError(
                f"upstream {self.url} has no list of models (status {response.status_code}): "
                "name one with --model, or is it no OpenAI-compatible server?"
            ) from None
        self.owner = next((entry.owned_by for entry in listed if entry.owned_by), None)
        slot = await self._slot() if self.owner == "llamacpp" else None
        return [self._card(entry, slot) for entry in listed]

    def _card(self, entry: _Listed, slot: int | None) -> ModelCard:
        trained = entry.meta.n_ctx_train if entry.meta is not None else None
        told = slot or entry.max_model_len or entry.context_length or trained
        return ModelCard(
            id=entry.id,
            root=entry.root,
            parent=entry.parent,
            max_model_len=self.context or told or UNKNOWN_CONTEXT,
        )

    async def _slot(self) -> int | None:
        """llama.cpp's context of one request, which is less than the model's own may be."""
        try:
            found = _Properties.model_validate_json((await self._get("/props")).content)
        except (UpstreamFailure, ValidationError):
            return None
        self._properties = found
        return found.default_generation_settings.n_ctx

    async def version(self) -> str:
        """Its version, as far as it tells."""
        if self._properties is not None:
            return self._properties.build_info
        return await super().version()

    async def tokenize(self, model: str, text: str) -> list[int] | None:
        """Nothing: its tokens are its own."""
        return None

    # ---------------------------------------------------------------------------- one request

    async def _begin(
        self, request: GenerationRequest, info: EngineInfo, defaults: Mapping[str, Any]
    ) -> tuple[Wire, httpx.Response]:
        """Send the request; a server that cannot is an error before anything has come."""
        assert isinstance(request, ChatTurn)
        body = {**request.fields, "model": info.model, "stream": True}
        body["stream_options"] = {"include_usage": True, **(body.get("stream_options") or {})}
        content = json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
        response = await self._read(self._send_chat(request.path, content), first=True)
        if response.status_code == 200:
            return Wire.COMPLETIONS, response
        answer = await self._read(error_body(response), first=True)
        raise read_error(response.status_code, answer, response.headers.get("retry-after"))

    async def _send_chat(self, path: str, content: bytes) -> httpx.Response:
        headers = {"content-type": "application/json", **trace_headers()}
        request = self._http.build_request("POST", path, content=content, headers=headers)
        return await self._send(request, late=True)

    def _arrivals(self, wire: Wire, request: GenerationRequest) -> ChatArrivals:
        return ChatArrivals(wire, request)
