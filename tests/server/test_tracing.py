"""Spans of requests: whose child they are, what they say, where the time goes. Off: nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanKind, StatusCode

from extracot_server.app import create_app
from extracot_server.config.settings import Settings
from extracot_server.engine.remote.engine import RemoteEngine
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from extracot_server.observability.tracing import Tracing
from tests.server.engine.remote_fakes import FakeUpstream, listening, load_scripted
from tests.server.live import Live, serve, user

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARTS = ["resolve", "render", "queue", "first token", "generate"]
PROMPT = "What is the secret of Mrs Dalloway's 17 flowers?"


@dataclass
class Traced:
    """A server and the spans it has finished."""

    live: Live
    exporter: InMemorySpanExporter

    def spans(self, root: str) -> dict[str, ReadableSpan]:
        """The spans of the one request there was, by name, once its root has ended."""
        self.live.wait_for(
            lambda: root in [span.name for span in self.exporter.get_finished_spans()]
        )
        found = self.exporter.get_finished_spans()
        by_name = {span.name: span for span in found}
        assert len(by_name) == len(found)
        return by_name


@contextmanager
def traced(behaviour: ScriptedBehaviour | None = None, **settings: Any) -> Iterator[Traced]:
    """A server whose spans are kept in memory."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with serve(behaviour, tracing=Tracing(provider), **settings) as live:
        yield Traced(live, exporter)


def ask(live: Live, **fields: Any) -> Any:
    """A request within the client's own trace."""
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    body = {"messages": user(PROMPT), "budget": 0.4, **fields}
    return live.http.post("/v1/chat/completions", json=body, headers=headers)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_and_its_parts_are_children_of_the_clients_span(stream: bool) -> None:
    with traced() as server:
        ask(server.live, stream=stream)
        spans = server.spans("chat scripted")
    assert sorted(spans) == sorted(["chat scripted", *PARTS])
    root = spans["chat scripted"]
    assert root.kind is SpanKind.SERVER
    assert root.parent is not None and f"{root.parent.span_id:016x}" == PARENT
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {TRACE}
    for name in PARTS:
        above = spans["generate"] if name == "first token" else root
        parent = spans[name].parent
        assert parent is not None and parent.span_id == above.context.span_id, name
        assert root.start_time <= spans[name].start_time <= spans[name].end_time <= root.end_time
    starts = [spans[name].start_time for name in ("resolve", "render", "queue", "generate")]
    assert starts == sorted(starts)
    assert [event.name for event in spans["generate"].events] == ["first answer token"]


def test_attributes_are_those_of_the_conventions_and_of_the_report() -> None:
    with traced() as server:
        reply = ask(server.live, temperature=0.5, seed=3, max_tokens=300, n=2).json()
        root = server.spans("chat scripted")["chat scripted"]
    found = dict(root.attributes or {})
    conventions = {
        value
        for name, value in vars(gen_ai_attributes).items()
        if name.startswith("GEN_AI_") and isinstance(value, str)
    }
    assert {name for name in found if name.startswith("gen_ai.")} <= conventions
    usage, report = reply["usage"], reply["budget"]
    expected = {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "scripted",
        "gen_ai.request.max_tokens": 300,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.seed": 3,
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "gen_ai.usage.reasoning.output_tokens": report["reasoning_tokens"],
        "gen_ai.response.finish_reasons": ("stop", "stop"),
        "extracot.budget.level": "0.4",
        "extracot.saved_tokens": report["saved_tokens_estimate"],
        "extracot.outcome": "ok",
    }
    assert expected.items() <= found.items()
    assert root.status.status_code is StatusCode.UNSET
    assert "Dalloway" not in str(found)


def test_prompts_only_where_asked_for() -> None:
    with traced(log_prompts=True) as server:
        ask(server.live)
        found = server.spans("chat scripted")["chat scripted"].attributes or {}
    assert PROMPT in str(found["gen_ai.input.messages"])


def test_a_refusal_and_a_failure_are_traced() -> None:
    with traced(ScriptedBehaviour(fail_after_tokens=8)) as server:
        ask(server.live, budget=7)
        spans = server.spans("chat")
        assert list(spans) == ["chat"]  # nothing was resolved, and the model's name may be anything
        assert (spans["chat"].attributes or {})["error.type"] == "invalid_value"
        assert spans["chat"].status.status_code is StatusCode.UNSET
        server.exporter.clear()
        ask(server.live)
        root = server.spans("chat scripted")["chat scripted"]
        assert (root.attributes or {})["error.type"] == "internal_error"
        assert root.status.status_code is StatusCode.ERROR


def test_a_client_that_says_not_sampled_gets_no_spans_and_others_are_not_traced() -> None:
    with traced() as server:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
        body = {"messages": user()}
        server.live.http.post("/v1/chat/completions", json=body, headers=headers)
        for path in ("/v1/models", "/health", "/metrics"):
            server.live.http.get(path)
        ask(server.live)
        assert sorted(server.spans("chat scripted")) == sorted(["chat scripted", *PARTS])


@dataclass
class Collector:
    """A collector of traces: what came to it, by path."""

    url: str
    received: dict[str, list[bytes]] = field(default_factory=dict)


@contextmanager
def collector() -> Iterator[Collector]:
    """An OTLP receiver on a socket."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.received.setdefault(self.path, []).append(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_setting_sends_spans_to_a_collector_the_last_ones_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    with collector() as found:
        with serve(otlp_traces_endpoint=found.url) as live:
            assert ask(live).status_code == 200
        (path,) = found.received
        assert path == "/v1/traces"
        names, services = [], set()
        for body in found.received[path]:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                services |= {
                    a.value.string_value
                    for a in resource.resource.attributes
                    if a.key == "service.name"
                }
                names += [span.name for scope in resource.scope_spans for span in scope.spans]
    assert sorted(names) == sorted(["chat scripted", *PARTS])
    assert services == {"extracot-server"}


@dataclass
class Noting(FakeUpstream):
    """A vLLM server that keeps what traces its requests belong to."""

    traces: list[str | None] = field(default_factory=list)

    def refuses(self, request: Request) -> Response | None:
        """Asked for each request that generates, among others."""
        if request.method == "POST":
            self.traces.append(request.headers.get("traceparent"))
        return super().refuses(request)


@pytest.mark.anyio
async def test_a_server_behind_this_one_gets_the_trace() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    fake = Noting()
    async with listening(fake):
        engine = RemoteEngine([fake.url], load_model=load_scripted)
        app = create_app(Settings(engine="scripted"), engine=engine, tracing=Tracing(provider))
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://app") as client,
        ):
            body = {"messages": user(), "max_tokens": 30}
            reply = await client.post("/v1/chat/completions", json=body)
            assert reply.status_code == 200, reply.text
    (root,) = [span for span in exporter.get_finished_spans() if span.kind is SpanKind.SERVER]
    context = root.context
    assert context is not None
    (onward,) = {trace for trace in fake.traces if trace is not None}
    assert onward.startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")


def test_off_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import sys\n"
        "from extracot_server.app import create_app\n"
        "from extracot_server.config.settings import Settings\n"
        "create_app(Settings(engine='scripted'))\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


@pytest.mark.parametrize("value", ["collector:4318", "grpc://collector:4317", "http://", "x"])
def test_an_endpoint_that_is_none_is_said(value: str) -> None:
    with pytest.raises(ValueError, match="must be an address like http://collector:4318"):
        Settings(engine="scripted", otlp_traces_endpoint=value)
