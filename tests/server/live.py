"""The real app on an engine, over HTTP, in a thread of its own; and what tests ask of it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import openai
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from extracot_server.app import create_app
from extracot_server.config.settings import Settings
from extracot_server.engine.base import Engine
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine
from extracot_server.runtime.http_server import GracefulServer, make_server

if TYPE_CHECKING:
    from extracot_server.observability.tracing import Tracing

WAIT_SECONDS = 30.0
QUESTION = "What is 12 * 3 + 4?"
NO_RETRY = {"max_retries": 0, "timeout": 120.0}


def user(text: str = QUESTION) -> list[dict[str, Any]]:
    """One user turn."""
    return [{"role": "user", "content": text}]


@dataclass
class Live:
    """A running server. ``engine`` is the one behind it, ``app`` the very app it serves."""

    url: str
    engine: Any
    app: FastAPI
    loop: asyncio.AbstractEventLoop
    http: httpx.Client
    server: GracefulServer

    def post(self, body: Any = None, /, **fields: Any) -> httpx.Response:
        """POST a chat request: raw bytes, a whole body, or fields beside one user turn."""
        if isinstance(body, bytes | str):
            headers = {"content-type": "application/json"}
            return self.http.post("/v1/chat/completions", content=body, headers=headers)
        whole = body if body is not None else {"messages": user(), **fields}
        return self.post(json.dumps(whole))

    def chat(self, **fields: Any) -> dict[str, Any]:
        """The JSON reply of a request that must succeed."""
        response = self.post(**fields)
        assert response.status_code == 200, response.text
        reply: dict[str, Any] = response.json()
        return reply

    def chunks(self, **fields: Any) -> list[dict[str, Any]]:
        """The chunks of a stream that must end in ``[DONE]``."""
        response = self.post(stream=True, **fields)
        assert response.status_code == 200, response.text
        return read_chunks(response.text)

    def refused(self, body: Any = None, /, status: int = 400, **fields: Any) -> dict[str, Any]:
        """OpenAI's error object of a request that must be refused before the engine."""
        before, served = len(self.engine.requests), self.metric_sum("extracot_requests_total")
        response = self.post(body, **fields)
        assert response.status_code == status, response.text
        assert response.headers["x-request-id"]
        assert len(self.engine.requests) == before, "something was sent to the engine"
        assert self.metric_sum("extracot_requests_total") == served, "counted as served"
        payload = response.json()
        assert set(payload) == {"error"}
        error: dict[str, Any] = payload["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str) and error["message"]
        return error

    def openai(self) -> openai.OpenAI:
        """The OpenAI SDK as users have it, without retries."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", **NO_RETRY)  # type: ignore[arg-type]

    def async_openai(self) -> openai.AsyncOpenAI:
        """The same, async."""
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", **NO_RETRY)  # type: ignore[arg-type]

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of ``/metrics`` by name and labels."""
        text = self.http.get("/metrics").text
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric_sum(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that carry these labels."""
        wanted, samples = set(labels.items()), self.metrics().items()
        return sum(value for (found, has), value in samples if found == name and wanted <= has)

    def stop(self) -> None:
        """What a signal does."""
        self.loop.call_soon_threadsafe(self.server.stop)

    def counted(self, name: str, **labels: str) -> float:
        """A counter of the server's own, also when nobody can ask for ``/metrics`` any more."""
        found = self.app.state.extracot.metrics.registry.get_sample_value(name, labels)
        return float(found or 0.0)

    def run(self, work: Coroutine[Any, Any, Any], seconds: float | None = None) -> Any:
        """What a coroutine returns that runs on the server's loop, where its engine lives."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def in_flight(self) -> int:
        """Requests that the engine itself holds now."""
        return int(self.run(self.engine.in_flight(), WAIT_SECONDS))

    def wait_for(self, condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
        """Poll until the condition holds; fail the test when it does not in time."""
        wait_for(condition, seconds)


def wait_for(condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    """Poll until the condition holds; an ``AssertionError`` when it does not in time."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("the condition never became true")


def read_events(text: str) -> list[str]:
    """The data of each server-sent event; comments are left out."""
    frames = [frame for frame in text.split("\n\n") if frame and not frame.startswith(":")]
    assert all(frame.startswith("data: ") for frame in frames), text
    return [frame.removeprefix("data: ") for frame in frames]


def read_chunks(text: str) -> list[dict[str, Any]]:
    """The JSON of each event of a stream; it must end in one ``[DONE]``."""
    *events, last = read_events(text)
    assert last == "[DONE]"
    return [json.loads(event) for event in events]


def counted(usage: dict[str, Any]) -> dict[str, Any]:
    """Usage without what depends on the requests before: which tokens a cache had."""
    return {name: found for name, found in usage.items() if name != "prompt_tokens_details"}


def collect(chunks: list[dict[str, Any]], index: int = 0) -> dict[str, Any]:
    """A choice put together from its chunks, in the form of a JSON reply's choice."""
    content, reasoning, logprobs = "", "", []
    found: dict[str, Any] = {"index": index, "logprobs": None}
    for chunk in chunks:
        for choice in chunk.get("choices", ()):
            if choice["index"] != index:
                continue
            delta = choice["delta"]
            content += delta.get("content") or ""
            reasoning += delta.get("reasoning") or ""
            if choice["logprobs"] is not None:
                logprobs += choice["logprobs"]["content"]
            if choice["finish_reason"] is not None:
                found["finish_reason"] = choice["finish_reason"]
                found["budget"] = chunk["budget"]
    message = {"role": "assistant", "content": content, "refusal": None}
    message["reasoning"] = message["reasoning_content"] = reasoning or None
    return found | {"message": message, "logprobs": {"content": logprobs, "refusal": None}}


@contextmanager
def serve(
    behaviour: ScriptedBehaviour | None = None,
    *,
    on: Engine | None = None,
    tracing: Tracing | None = None,
    **settings: Any,
) -> Iterator[Live]:
    """Serve until the block ends; the server is the one ``extracot-serve`` runs."""
    used = on if on is not None else ScriptedEngine(behaviour)
    own = {"engine": "scripted", "port": 0, "grace_seconds": 1.0, "on_engine_death": "stay"}
    own["join_milliseconds"] = 0  # how many events there are is not to depend on the machine
    chosen = Settings(**{**own, **settings})
    app = create_app(chosen, engine=used, tracing=tracing)
    server = make_server(app, app.state.extracot)
    ready: list[asyncio.AbstractEventLoop] = []
    failure: list[BaseException] = []

    async def run() -> None:
        async with app.router.lifespan_context(app):
            server.config.host, server.config.port = "127.0.0.1", 0
            ready.append(asyncio.get_running_loop())
            await server.serve()

    def target() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # handed to the test, which is in another thread
            failure.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    wait_for(lambda: server.started or not thread.is_alive(), 600.0)
    if failure:
        raise failure[0]
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    http = httpx.Client(base_url=url, timeout=300.0)
    try:
        yield Live(url, used, app, ready[0], http, server)
    finally:
        http.close()
        server.should_exit = True
        thread.join(WAIT_SECONDS * 2)
        assert not thread.is_alive(), "the server did not stop"
