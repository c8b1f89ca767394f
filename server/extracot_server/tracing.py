"""OpenTelemetry: a span for each request that generates, and one for each part of its way.

Imported only where tracing is on; the only module that imports ``opentelemetry``. Spans are made
of a :class:`~extracot_server.receipts.Receipt`'s marks when the request is over, so a request pays
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
from extracot_server.metrics import UNFINISHED
from extracot_server.receipts import Receipt

OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/messages": "chat",
    "/v1/responses": "chat",
}
"""The paths that are traced, and what GenAI calls each."""


class Tracing:
    """Spans of one server, on a provider that it shuts down."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("extracot_server", extracot.__version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, receipt: Receipt, headers: Mapping[str, str]) -> Span | None:
        """The span of a request, as a child of the client's; ``None`` for one that is not traced.

        ``headers`` are the request's, by lower-case name.
        """
        if receipt.method != "POST" or receipt.path not in OPERATIONS:
            return None
        parent = self._propagator.extract(headers)
        name = OPERATIONS[receipt.path]
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, start_time=receipt.opened_ns)
        receipt.trace_id = f"{span.get_span_context().trace_id:032x}"
        return span

    def headers(self, span: Span) -> dict[str, str]:
        """What a server behind this one needs to make its spans children of this one."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        return carrier

    def end(self, span: Span, receipt: Receipt) -> None:
        """Say what came of the request, and where its time went."""
        if span.is_recording():
            if receipt.chat is not None:
                span.update_name(f"{OPERATIONS[receipt.path]} {receipt.chat.model.name}")
            span.set_attributes(attributes(receipt))
            if receipt.outcome in UNFINISHED or (receipt.status or 0) >= 500:
                span.set_status(Status(StatusCode.ERROR))
            self._parts(receipt, set_span_in_context(span))
        span.end(_ns(receipt, receipt.closed))

    async def close(self) -> None:
        """Send what is left and end."""
        await asyncio.to_thread(self._provider.shutdown)

    def _parts(self, receipt: Receipt, parent: Context) -> None:
        times = receipt.times
        if times is None:
            return
        prepared = times.start + times.overhead
        self._part(receipt, parent, "resolve", times.start, times.resolved)
        self._part(receipt, parent, "render", times.resolved, prepared)
        if not times.queued:
            return
        self._part(receipt, parent, "queue", times.queued, times.turn or receipt.closed)
        if not times.turn:
            return
        generate = self._tracer.start_span("generate", parent, start_time=_ns(receipt, times.turn))
        if times.first_token:
            inner = set_span_in_context(generate)
            self._part(receipt, inner, "first token", times.turn, times.first_token)
        if times.first_answer:
            generate.add_event("first answer token", None, _ns(receipt, times.first_answer))
        generate.end(_ns(receipt, receipt.settled or receipt.closed))

    def _part(self, receipt: Receipt, parent: Context, name: str, start: float, end: float) -> None:
        span = self._tracer.start_span(name, parent, start_time=_ns(receipt, start))
        span.end(_ns(receipt, end))


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


def attributes(receipt: Receipt) -> dict[str, Any]:
    """A request's attributes. No text of the client's, unless prompts are to be kept."""
    found: dict[str, Any] = {
        "http.request.method": receipt.method,
        "url.path": receipt.path,
        "http.response.status_code": receipt.status,
        "gen_ai.operation.name": OPERATIONS[receipt.path],
        "gen_ai.provider.name": "extracot",
        "error.type": receipt.error or UNFINISHED.get(receipt.outcome or ""),
        "extracot.request_id": receipt.request_id,
        "extracot.outcome": receipt.outcome,
    }
    return {
        k: v for k, v in (found | _prepared(receipt) | _settled(receipt)).items() if v is not None
    }


def _prepared(receipt: Receipt) -> dict[str, Any]:
    chat = receipt.chat
    if chat is None:
        return {}
    job, sampling = chat.job, chat.job.sampling
    found = {
        "gen_ai.request.model": chat.model.name,
        "gen_ai.response.model": chat.model.name,
        "gen_ai.request.max_tokens": job.max_tokens,
        "gen_ai.request.choice.count": job.n if job.n > 1 else None,
        "gen_ai.request.seed": sampling.seed,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.top_k": sampling.top_k,
        "gen_ai.usage.input_tokens": len(chat.rendered.prompt_ids),
        "extracot.budget.level": chat.resolved.label,
        "extracot.budget.source": chat.resolved.source,
        "extracot.budget.ratio": chat.resolved.applied_ratio,
        "extracot.arm": None if chat.arm is None else chat.arm.value,
        "extracot.key": job.caller.name or None,
    }
    if receipt.keep_prompt:
        turns = [
            {"role": m.role, "parts": [{"type": "text", "content": m.content}]}
            for m in job.messages
        ]
        found["gen_ai.input.messages"] = json.dumps(turns, ensure_ascii=False)
    return found


def _settled(receipt: Receipt) -> dict[str, Any]:
    usage, report, times = receipt.usage, receipt.report, receipt.times
    if usage is None or report is None or times is None:
        return {}
    first = times.first_token - times.start if times.first_token else None
    return {
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        "gen_ai.response.finish_reasons": list(receipt.finish_reasons) or None,
        "gen_ai.response.time_to_first_chunk": first,
        "extracot.answer_tokens": report.answer_tokens,
        "extracot.saved_tokens": report.saved_tokens_estimate,
        "extracot.realised_ratio": report.realised_ratio,
        "extracot.chosen_level": report.chosen,
        "extracot.cap_hit": report.cap_hit,
    }


def _ns(receipt: Receipt, mark: float) -> int:
    """A mark of the process' clock as nanoseconds since 1970."""
    return receipt.opened_ns + round((mark - receipt.opened) * 1e9)
