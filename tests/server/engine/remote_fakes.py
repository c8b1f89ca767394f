"""A vLLM server without vLLM: its HTTP surface on the scripted engine, on a real socket.

It speaks both protocols as vLLM 0.32 does (order and cut of log-probabilities, errors in the
stream, 403 without the flag), refuses keys that vLLM would silently ignore, and breaks on demand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from extracot_server.engine.base import (
    AnswerFormat,
    EngineDeadError,
    EngineRequestError,
    GenerationDelta,
    GenerationRequest,
    SamplingParams,
    TokenLogprob,
)
from extracot_server.engine.remote.engine import RemoteEngine
from extracot_server.engine.remote.model import LocalModel
from extracot_server.engine.remote.upstream import UpstreamTimes
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine
from extracot_server.engine.scripted.tokenizer import ScriptedTokenizer

GENERATE, COMPLETIONS = "/inference/v1/generate", "/v1/completions"
SAMPLING = {
    *("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty"),
    *("repetition_penalty", "seed", "logit_bias", "logprobs", "min_tokens", "ignore_eos"),
    *("max_tokens", "stop_token_ids", "allowed_token_ids", "logprob_token_ids"),
    "structured_outputs",
}
SHARED = {"model", "request_id", "priority"}


@dataclass
class Faults:
    """What is wrong with a server; everything may be changed while it runs."""

    health: int = 200
    health_hangs: bool = False
    answer: tuple[int, Any] | None = None
    """Every generation request gets this status and body."""
    only_formats: bool = False
    """``answer`` is for requests with a grammar only."""
    retry_after: str | None = None
    """The header that goes with ``answer``."""
    error: dict[str, Any] | None = None
    """Sent inside the stream, after ``after`` chunks."""
    cut: bool = False
    """Break the connection after ``after`` chunks."""
    stall: bool = False
    """Send nothing more after ``after`` chunks, and never end."""
    abort: bool = False
    """Say ``finish_reason: abort`` after ``after`` chunks, as a server does that shuts down."""
    after: int = 0
    endless: bool = False
    """Say nothing behind a whole reply, and do not end its stream."""


@dataclass
class FakeUpstream:
    """One server. ``bodies`` are the generation requests seen, by path."""

    engine: ScriptedEngine = field(default_factory=ScriptedEngine)
    scale_out: bool = True
    api_key: str | None = None
    model: str = "served"
    root: str | None = None
    max_model_len: int = 4096
    max_logprobs: int = 20
    other_tokenizer: bool = False
    moved: str | None = None
    """Where its list of models redirects to."""
    faults: Faults = field(default_factory=Faults)
    bodies: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    aborted: list[str] = field(default_factory=list)
    asked: int = 0
    """How often for its health."""
    url: str = ""
    server: uvicorn.Server | None = None

    @property
    def served(self) -> int:
        """Generation requests that reached it."""
        return len(self.bodies)

    def app(self) -> Starlette:
        """Its routes."""
        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/version", self.version),
                Route("/v1/models", self.models),
                Route("/tokenize", self.tokenize, methods=["POST"]),
                Route(GENERATE, self.generate, methods=["POST"]),
                Route(COMPLETIONS, self.generate, methods=["POST"]),
                Route("/inference/v1/abort_requests", self.abort, methods=["POST"]),
            ]
        )

    def refuses(self, request: Request) -> Response | None:
        """vLLM guards /v1 and /inference, and nothing else."""
        given = request.headers.get("authorization")
        self.keys.add(given)
        if self.api_key is not None and given != f"Bearer {self.api_key}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        return None

    async def health(self, _: Request) -> Response:
        self.asked += 1
        while self.faults.health_hangs:
            await asyncio.sleep(0.01)
        return Response(status_code=self.faults.health)

    async def version(self, _: Request) -> Response:
        return JSONResponse({"version": "0.32.0"})

    async def models(self, request: Request) -> Response:
        card: dict[str, Any] = {"id": self.model, "root": self.root or self.model, "parent": None}
        card |= {"max_model_len": self.max_model_len, "object": "model"}
        if self.moved is not None:
            return Response(status_code=301, headers={"location": self.moved})
        return self.refuses(request) or JSONResponse({"object": "list", "data": [card]})

    async def tokenize(self, request: Request) -> Response:
        body = await request.json()
        ids = self.engine.tokenizer.encode(body["prompt"])
        return JSONResponse({"tokens": ids[1:] if self.other_tokenizer else ids})

    async def abort(self, request: Request) -> Response:
        self.aborted += (await request.json())["request_ids"]
        return self.refuses(request) or Response()

    async def generate(self, request: Request) -> Response:
        path = request.url.path
        if refusal := self.refuses(request):
            return refusal
        body = await request.json()
        self.bodies.append((path, body))
        if path == GENERATE and not self.scale_out:
            return error_body(403, "Scale-out endpoints are disabled.", "PermissionDeniedError")
        formatted = "structured_outputs" in body.get("sampling_params", body)
        if self.faults.answer is not None and (formatted or not self.faults.only_formats):
            status, content = self.faults.answer
            raw = content if isinstance(content, str) else json.dumps(content)
            after = self.faults.retry_after
            headers = {} if after is None else {"retry-after": after}
            return Response(raw, status, headers, media_type="application/json")
        if body["model"] != self.model:
            return error_body(404, f"The model `{body['model']}` does not exist.", "NotFoundError")
        asked = read_body(path, body)
        if path == GENERATE and (body["sampling_params"].get("logprobs") or 0) > self.max_logprobs:
            return error_body(400, "Requested sample logprobs of too many", param="logprobs")
        if path == COMPLETIONS and len(asked.token_ids) + asked.max_tokens > self.max_model_len:
            return error_body(400, "This model's maximum context length is smaller.")
        if asked.answer_format is not None:
            try:
                await self.engine.check_format(asked.answer_format)
            except EngineRequestError as error:
                return error_body(400, str(error), param="structured_outputs")
        stream = self.stream(path, asked, request)
        return StreamingResponse(stream, media_type="text/event-stream")

    async def stream(
        self, path: str, asked: GenerationRequest, request: Request
    ) -> AsyncIterator[str]:
        """Chunks as vLLM words them, until a fault or the end."""
        faults, sent, cached = self.faults, 0, None
        deltas = self.engine.generate(asked)
        yield ": a comment\n\n"
        try:
            async with contextlib.aclosing(deltas):
                async for delta in deltas:
                    if sent == faults.after:
                        if faults.error is not None:
                            yield f"data: {json.dumps({'error': faults.error})}\n\n"
                            break
                        if faults.abort:
                            yield chunk(path, GenerationDelta(()), asked, reason="abort")
                            break
                        if faults.cut:
                            self.break_connections()
                        if faults.cut or faults.stall:
                            await asyncio.Event().wait()
                    yield chunk(path, delta, asked)
                    sent += 1
                    cached = delta.cached_tokens
        except EngineRequestError as error:
            param = {"messages": "token_ids", "top_logprobs": "logprobs"}.get(str(error.param))
            content = {"message": str(error), "param": param or error.param, "code": 400}
            yield f"data: {json.dumps({'error': content})}\n\n"
        except EngineDeadError as error:
            yield f"data: {json.dumps({'error': {'message': str(error), 'code': 500}})}\n\n"
        if faults.endless:
            await asyncio.Event().wait()
        yield usage_chunk(len(asked.token_ids), cached)
        yield "data: [DONE]\n\n"

    def break_connections(self) -> None:
        """What a killed process leaves: every connection reset."""
        assert self.server is not None
        for connection in list(self.server.server_state.connections):
            connection.transport.abort()

    async def kill(self) -> None:
        """Stop listening and break what is open."""
        assert self.server is not None
        for listener in self.server.servers:
            listener.close()
        self.break_connections()


def error_body(
    status: int, message: str, kind: str = "BadRequestError", param: str | None = None
) -> Response:
    """vLLM's error object."""
    content = {"message": message, "type": kind, "param": param, "code": status}
    return JSONResponse({"error": content}, status)


def read_body(path: str, body: dict[str, Any]) -> GenerationRequest:
    """A wire body as our own request; keys nobody knows fail the test."""
    body = dict(body)
    assert body.pop("stream") is True
    assert body.pop("stream_options") == {"include_usage": True}
    if path == GENERATE:
        values = body.pop("sampling_params")
        assert values.pop("detokenize") is False, values
        assert body.pop("reasoning_ended", True) is True
        ids = body.pop("token_ids")
    else:
        values = {name: body.pop(name) for name in SAMPLING & set(body)}
        assert body.pop("return_token_ids") is True
        assert body.pop("return_tokens_as_token_ids") is True
        ids = body.pop("prompt")
    assert set(values) <= SAMPLING and set(body) <= SHARED, (values, body)
    if allowed := values.get("allowed_token_ids"):
        assert values["logprob_token_ids"] == allowed and values["logprobs"] == len(allowed)
    grammar = values.get("structured_outputs")
    answer = None
    if grammar is not None:
        kind = "json_object" if "json_object" in grammar else "json_schema"
        answer = AnswerFormat(kind, grammar.get("json"))  # type: ignore[arg-type]
    logprobs = None if allowed else values.get("logprobs")
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
    return GenerationRequest(
        request_id=body["request_id"],
        token_ids=tuple(ids),
        max_tokens=values["max_tokens"],
        sampling=SamplingParams(
            **{name: values.get(name) for name in names},
            presence_penalty=values.get("presence_penalty", 0.0),
            frequency_penalty=values.get("frequency_penalty", 0.0),
            logit_bias={int(id_): bias for id_, bias in values.get("logit_bias", {}).items()},
            logprobs=logprobs,
            min_tokens=values.get("min_tokens", 0),
            ignore_eos=values.get("ignore_eos", False),
        ),
        stop_token_ids=tuple(values.get("stop_token_ids", ())),
        allowed_token_ids=tuple(allowed) if allowed else None,
        answer_format=answer,
        priority=body["priority"],
    )


def chunk(
    path: str, delta: GenerationDelta, asked: GenerationRequest, reason: str | None = None
) -> str:
    """One server-sent event."""
    choice: dict[str, Any] = {"index": 0, "token_ids": list(delta.token_ids)}
    choice["finish_reason"] = reason or delta.finish_reason
    if delta.logprobs is not None:
        asked_for = asked.sampling.logprobs
        wanted = len(asked.allowed_token_ids or ()) if asked_for is None else asked_for
        entries = [in_engine_order(entry) for entry in delta.logprobs]
        make = generate_logprobs if path == GENERATE else completion_logprobs
        choice["logprobs"] = make(entries, wanted)
    elif path == COMPLETIONS:
        choice["text"] = "x"
    name = {"request_id": "r"} if path == GENERATE else {"id": "r", "model": "m"}
    return f"data: {json.dumps({**name, 'choices': [choice]})}\n\n"


def usage_chunk(prompt: int, cached: int | None) -> str:
    """The last event; ``cached`` with ``--enable-prompt-tokens-details`` only."""
    details = None if cached is None else {"cached_tokens": cached}
    usage = {"prompt_tokens": prompt, "prompt_tokens_details": details}
    return f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"


def in_engine_order(entry: TokenLogprob) -> list[tuple[int, float]]:
    """The sampled token first, then the others by rank."""
    others = [pair for pair in entry.top if pair[0] != entry.token_id]
    return [(entry.token_id, entry.logprob), *others]


def generate_logprobs(entries: list[list[tuple[int, float]]], wanted: int) -> dict[str, Any]:
    """``generate`` cuts after the sampled token was put first."""
    content = []
    for pairs in entries:
        named = [{"token_id": id_, "logprob": value, "rank": 1} for id_, value in pairs]
        content.append({**named[0], "top_logprobs": named[: max(wanted, 1)]})
    return {"content": content}


def completion_logprobs(entries: list[list[tuple[int, float]]], wanted: int) -> dict[str, Any]:
    """Completions list the sampled token besides the k best."""
    named = [{f"token_id:{id_}": v for id_, v in pairs[: wanted + 1]} for pairs in entries]
    return {
        "tokens": [f"token_id:{pairs[0][0]}" for pairs in entries],
        "token_logprobs": [pairs[0][1] for pairs in entries],
        "top_logprobs": named,
        "text_offset": [0] * len(entries),
    }


@contextlib.asynccontextmanager
async def listening(fake: FakeUpstream, port: int = 0) -> AsyncIterator[FakeUpstream]:
    """Serve it in this loop until the end, or until it was killed."""
    await fake.engine.start()
    listener = socket.create_server(("127.0.0.1", port))
    fake.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(fake.app(), lifespan="off", log_config=None, access_log=False)
    fake.server = Server(config)
    serving = asyncio.create_task(fake.server.serve(sockets=[listener]))
    while not fake.server.started:
        await asyncio.sleep(0.005)
    try:
        yield fake
    finally:
        fake.faults.health_hangs = False
        fake.server.should_exit = fake.server.force_exit = True
        await fake.kill()
        await serving
        await fake.kill()  # what was accepted in between, which a forced exit does not wait for
        listener.close()


class Server(uvicorn.Server):
    """uvicorn without its signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the test run's."""
        yield


@contextlib.asynccontextmanager
async def upstreams(*fakes: FakeUpstream) -> AsyncIterator[None]:
    """All of them at once."""
    async with contextlib.AsyncExitStack() as stack:
        for fake in fakes:
            await stack.enter_async_context(listening(fake))
        yield


def scripted(**behaviour: Any) -> ScriptedEngine:
    """A scripted engine that behaves so."""
    return ScriptedEngine(ScriptedBehaviour(**behaviour))


def load_scripted(source: str) -> LocalModel:
    """What a folder with the scripted tokenizer would give."""
    tokenizer = ScriptedTokenizer()
    ends = frozenset({tokenizer.eos_token_id or 0, tokenizer.text_end_id})
    return LocalModel(source, tokenizer, ends, len(tokenizer), {})


@contextlib.asynccontextmanager
async def remote(*fakes: FakeUpstream, **settings: Any) -> AsyncIterator[RemoteEngine]:
    """A started engine on these servers, closed at the end; short times unless told."""
    times = UpstreamTimes(
        connect=settings.pop("connect", 2.0),
        silence=settings.pop("silence", 20.0),
        health=settings.pop("health", 1.0),
    )
    settings = {"times": times, "load_model": load_scripted, "health_seconds": 60.0, **settings}
    engine = RemoteEngine([fake.url for fake in fakes], **settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close(0)
