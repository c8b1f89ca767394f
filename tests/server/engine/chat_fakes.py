"""An OpenAI-compatible server without a model, on a real socket: it says what a test wants.

It streams reasoning word by word in a field of its own or in the content, counts as it is told to,
goes on with the beginning of a reply where it is one that does, and breaks on demand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from dataclasses import field as own
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.server.live import Live, serve, wait_for

WORDS = [f" word{number:02d}" for number in range(40)]
ANSWER = ["The", " answer", " is", " 40."]


@dataclass
class FakeChat:
    """One server. ``bodies`` are the requests it has seen; the rest says how it replies."""

    owner: str | None = "llamacpp"
    model: str = "thinker"
    context: int | None = None
    field: str | None = "reasoning_content"
    """Where reasoning goes; ``None``: into the content, in tags."""
    reasoning: list[str] = own(default_factory=lambda: list(WORDS))
    answer: list[str] = own(default_factory=lambda: list(ANSWER))
    calls: list[dict[str, Any]] = own(default_factory=list)
    counts: str = "end"
    """``each``: usage with every chunk; ``end``: behind the end; ``none``: never."""
    hidden: int = 0
    """Reasoning tokens that are only in the usage."""
    cached: int | None = None
    """Tokens of its prefix cache, in the usage behind the end."""
    heeds: bool = True
    """Whether it does not reason when it is told so."""
    bundle: int = 1
    """Words in a chunk."""
    finish: str | None = None
    api_key: str | None = None
    health: int = 200
    moved: str | None = None
    """Where its list of models redirects to."""
    refusal: tuple[int, Any] | None = None
    retry_after: str | None = None
    script: list[str] | None = None
    """What it streams, as it is, in place of a reply."""
    script_breaks: bool = False
    """The connection breaks behind that."""
    gate: threading.Event | None = None
    """It answers no request before this is set."""
    hold_after: int | None = None
    """It says nothing more after so many chunks, until its client leaves."""
    break_after: int | None = None
    """The connection breaks after so many chunks."""
    bodies: list[dict[str, Any]] = own(default_factory=list)
    keys: set[str | None] = own(default_factory=set)
    closed: int = 0
    """Streams that were closed before their end."""
    url: str = ""
    server: uvicorn.Server | None = None

    def app(self) -> Starlette:
        """Its routes."""
        return Starlette(
            routes=[
                Route("/health", lambda _: Response(status_code=self.health)),
                Route("/v1/models", self.models),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
            ]
        )

    def refuses(self, request: Request) -> Response | None:
        given = request.headers.get("authorization")
        self.keys.add(given)
        if self.api_key is not None and given != f"Bearer {self.api_key}":
            return JSONResponse({"error": {"message": "bad key"}}, 401)
        return None

    async def models(self, request: Request) -> Response:
        if self.moved is not None:
            return Response(status_code=308, headers={"location": self.moved})
        entry = {"id": self.model, "object": "model", "owned_by": self.owner}
        if self.context is not None:
            entry["context_length"] = self.context
        return self.refuses(request) or JSONResponse({"object": "list", "data": [entry]})

    async def chat(self, request: Request) -> Response:
        if refusal := self.refuses(request):
            return refusal
        body = await request.json()
        self.bodies.append(body)
        while self.gate is not None and not self.gate.is_set():
            await asyncio.sleep(0.01)
        if self.refusal is not None:
            status, content = self.refusal
            headers = {} if self.retry_after is None else {"retry-after": self.retry_after}
            return JSONResponse(content, status, headers)
        return StreamingResponse(self.stream(body), media_type="text/event-stream")

    def said(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The deltas of a reply, a word or a bundle each."""
        goes_on = body["messages"][-1]["role"] == "assistant"
        self.hold_after = None if goes_on else self.hold_after
        silent = self.heeds and body.get("chat_template_kwargs", {}).get("enable_thinking") is False
        words = [] if goes_on or silent else self.reasoning
        if self.field is None and words:
            words = ["<think>\n", *words, "\n</think>\n\n"]
        for at in range(0, len(words), self.bundle):
            yield {self.field or "content": "".join(words[at : at + self.bundle])}
        if self.calls:
            yield from ({"tool_calls": [call]} for call in self.calls)
            return
        for at in range(0, len(self.answer), self.bundle):
            yield {"content": "".join(self.answer[at : at + self.bundle])}

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        prompt = sum(len((m["content"] or "").split()) for m in body["messages"]) + 3
        most = body.get("max_tokens", body.get("max_completion_tokens", 10**9))
        done = sent = 0
        finish = self.finish or ("tool_calls" if self.calls else "stop")
        if self.script is not None:
            for part in self.script:
                yield part
            if self.script_breaks:
                self.break_connections()
                await asyncio.Event().wait()
            return
        try:
            yield chunk({"role": "assistant", "content": None})
            for delta in self.said(body):
                if sent == self.hold_after:
                    await asyncio.Event().wait()
                if sent == self.break_after:
                    self.break_connections()
                    await asyncio.Event().wait()
                tokens = max(1, len(" ".join(str(v) for v in delta.values()).split()))
                if done + tokens > most:
                    finish = "length"
                    break
                done, sent = done + tokens, sent + 1
                usage = usage_of(prompt, done + self.hidden, self.hidden)
                yield chunk(delta, usage=usage if self.counts == "each" else None)
            yield chunk({}, finish=finish)
            if self.counts != "none" and body["stream_options"]["include_usage"]:
                usage = usage_of(prompt, done + self.hidden + 1, self.hidden)
                if self.cached is not None:
                    usage["prompt_tokens_details"] = {"cached_tokens": self.cached}
                yield event(choices=[], usage=usage)
            yield "data: [DONE]\n\n"
        except (asyncio.CancelledError, GeneratorExit):
            self.closed += 1
            raise

    def break_connections(self) -> None:
        """What a killed process leaves: every connection reset."""
        assert self.server is not None
        for connection in list(self.server.server_state.connections):
            connection.transport.abort()


def usage_of(prompt: int, completion: int, hidden: int) -> dict[str, Any]:
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
    usage["total_tokens"] = prompt + completion
    if hidden:
        usage["completion_tokens_details"] = {"reasoning_tokens": hidden}
    return usage


def chunk(
    delta: dict[str, Any], finish: str | None = None, usage: dict[str, Any] | None = None
) -> str:
    """One server-sent event."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion.chunk", "choices": [choice]}
    if usage is not None:
        body["usage"] = usage
    return event(**body)


def event(**body: Any) -> str:
    """A server-sent event that holds just this."""
    return f"data: {json.dumps(body)}\n\n"


@contextlib.contextmanager
def chatting(*fakes: FakeChat) -> Iterator[list[str]]:
    """Serve them in threads of their own until the end; their addresses."""
    threads = []
    for fake in fakes:
        listener = socket.create_server(("127.0.0.1", 0))
        fake.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(fake.app(), lifespan="off", log_config=None, access_log=False)
        fake.server = uvicorn.Server(config)
        run = fake.server.serve(sockets=[listener])
        threads.append(threading.Thread(target=asyncio.run, args=(run,), daemon=True))
        threads[-1].start()
    servers = [fake.server for fake in fakes if fake.server is not None]
    wait_for(lambda: all(server.started for server in servers))
    try:
        yield [fake.url for fake in fakes]
    finally:
        for server in servers:
            server.should_exit = server.force_exit = True
        for thread in threads:
            thread.join(10)


@contextlib.contextmanager
def in_front_of(*fakes: FakeChat, **settings: Any) -> Iterator[Live]:
    """Our server with these as its upstreams."""
    from extracot_server.config.settings import Settings
    from extracot_server.model_registry.loading import build_engine

    with chatting(*fakes) as urls:
        own = {"engine": "openai", "upstream": urls, **settings}
        chosen = Settings(**own)
        with serve(on=build_engine(chosen, chosen), **own) as live:
            yield live
