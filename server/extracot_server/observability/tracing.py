"""OpenTelemetry: a span for each request that generates, and one for each of its steps.

Imported only where tracing is on; the only module that imports ``opentelemetry``. Spans are made
of a ``observability.request_log.RequestRecord``'s marks when the request is over, so a request pays
for them nowhere on its way. Names are those of the GenAI and HTTP semantic conventions; what these
do not know begins with ``extracot.``.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import extracot
from extracot_server.generation.request import UNFINISHED
from extracot_server.observability.request_log import RequestRecord

OPERATIONS = {"/v1/chat/completions": "chat", "/v1/messages": "chat", "/v1/responses": "chat"}
"""The paths that are traced, and what GenAI calls each."""

_FIELDS = {
    "http.request.method": "method",
    "url.path": "path",
    "http.response.status_code": "status",
    "gen_ai.request.model": "model",
    "gen_ai.response.model": "model",
    "gen_ai.response.finish_reasons": "finish_reasons",
    "gen_ai.response.time_to_first_chunk": "first_token_seconds",
    "gen_ai.usage.input_tokens": "prompt_tokens",
    "gen_ai.usage.output_tokens": "completion_tokens",
    "gen_ai.usage.reasoning.output_tokens": "reasoning_tokens",
    "extracot.budget.level": "budget",
    "extracot.budget.source": "source",
    **{f"extracot.{name}": name for name in ("request_id", "outcome", "arm", "canary", "key")},
    **{f"extracot.{name}": name for name in ("answer_tokens", "saved_tokens", "realised_ratio")},
    "extracot.total_saved_tokens": "total_saved_tokens",
    **{f"extracot.{name}": name for name in ("chosen_level", "cap_hit")},
}
"""A span's attributes that are fields of the request's log line, by their names there."""


class Tracing:
    """Spans of one server, on a provider that it shuts down."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("extracot_server", extracot.__version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, record: RequestRecord, headers: Mapping[str, str]) -> Span | None:
        """The span of a request, as a child of the client's; ``None`` for one that is not traced.

        ``headers`` are the request's, by lower-case name.
        """
        if record.method != "POST" or record.path not in OPERATIONS:
            return None
        parent = self._propagator.extract(headers)
        name = OPERATIONS[record.path]
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, start_time=record.opened_ns)
        record.trace_id = f"{span.get_span_context().trace_id:032x}"
        return span

    def headers(self, span: Span) -> dict[str, str]:
        """What a server behind this one needs to make its spans children of this one."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        return carrier

    def end(self, span: Span, record: RequestRecord) -> None:
        """Say what came of the request, and where its time went."""
        if span.is_recording():
            if record.chat is not None:
                span.update_name(f"{OPERATIONS[record.path]} {record.chat.model.name}")
            span.set_attributes(attributes(record))
            if record.outcome in UNFINISHED or (record.status or 0) >= 500:
                span.set_status(Status(StatusCode.ERROR))
            self._parts(record, set_span_in_context(span))
        span.end(_ns(record, record.closed))

    async def close(self) -> None:
        """Send what is left and end."""
        await asyncio.to_thread(self._provider.shutdown)

    def _parts(self, record: RequestRecord, parent: Context) -> None:
        if record.chat is None:
            return
        times = record.chat.times

        def part(name: str, start: float, end: float, inside: Context = parent) -> None:
            span = self._tracer.start_span(name, inside, start_time=_ns(record, start))
            span.end(_ns(record, end))

        prepared = times.start + times.overhead
        part("resolve", times.start, times.resolved)
        part("render", times.resolved, prepared)
        if not times.queued:
            return
        part("queue", times.queued, times.admitted or record.closed)
        if not times.admitted:
            return
        generate = self._tracer.start_span(
            "generate", parent, start_time=_ns(record, times.admitted)
        )
        if times.first_token:
            inner = set_span_in_context(generate)
            part("first token", times.admitted, times.first_token, inner)
        if times.first_answer:
            generate.add_event("first answer token", None, _ns(record, times.first_answer))
        generate.end(_ns(record, record.finished or record.closed))


def otlp_tracing(endpoint: str) -> Tracing:
    """Tracing that sends to a collector by OTLP over HTTP.

    Without a path the endpoint's is the standard ``/v1/traces``. Sampling, headers, batching and
    the resource are OpenTelemetry's own ``OTEL_*`` variables. Raises ``ImportError`` where the
    extra ``tracing`` is not installed.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    parts = urlsplit(endpoint)
    url = urlunsplit(parts._replace(path="/v1/traces") if parts.path in ("", "/") else parts)
    named = "OTEL_SERVICE_NAME" in os.environ
    named = named or f"{SERVICE_NAME}=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    resource = Resource.create({} if named else {SERVICE_NAME: "extracot-server"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    return Tracing(provider)


def attributes(record: RequestRecord) -> dict[str, Any]:
    """A request's attributes. No text of the client's, unless prompts are to be kept."""
    fields = record.fields()
    found: dict[str, Any] = {name: fields.get(field) for name, field in _FIELDS.items()}
    found |= {
        "gen_ai.operation.name": OPERATIONS[record.path],
        "gen_ai.provider.name": "extracot",
        "error.type": record.error or UNFINISHED.get(record.outcome or ""),
    }
    if record.chat is not None:
        request, sampling = record.chat.request, record.chat.request.sampling
        found |= {
            "gen_ai.request.max_tokens": request.max_tokens,
            "gen_ai.request.choice.count": request.n if request.n > 1 else None,
            "gen_ai.request.seed": sampling.seed,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "gen_ai.request.top_k": sampling.top_k,
            "extracot.budget.ratio": record.chat.resolved.applied_ratio,
        }
    if "prompt" in fields:
        messages = [
            {"role": m["role"], "parts": [{"type": "text", "content": m["content"]}]}
            for m in fields["prompt"]
        ]
        found["gen_ai.input.messages"] = json.dumps(messages, ensure_ascii=False)
    return {name: value for name, value in found.items() if value is not None}


def _ns(record: RequestRecord, mark: float) -> int:
    """A mark of the process' clock as nanoseconds since 1970."""
    return record.opened_ns + round((mark - record.opened) * 1e9)
