"""Wiring: settings and an engine in, a FastAPI app out. No decisions are made here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry, ProcessCollector
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import extracot
from extracot.errors import CardError, ExtracotError
from extracot_server.admission.keys import KeyStore
from extracot_server.admission.queue import RequestQueue
from extracot_server.admission.scheduler import Scheduler
from extracot_server.api import (
    batch_lines,
    batches,
    canary,
    files,
    health,
    models,
    replies,
    tokenize,
    upstreams,
    usage,
)
from extracot_server.api.access import AccessMiddleware
from extracot_server.api.auth import KeyMiddleware
from extracot_server.api.cors import cors
from extracot_server.api.errors import (
    ErrorReply,
    HttpError,
    no_such_path,
    speaks_anthropic,
    to_http,
)
from extracot_server.api.openapi.docs_page import install_docs_page
from extracot_server.api.openapi.document import install_openapi
from extracot_server.api.permits import PermitMiddleware
from extracot_server.api.reasoning_seal import ReasoningSeal
from extracot_server.api.responses.held_items import HeldItems
from extracot_server.api.start_page import install_start_page
from extracot_server.budget.holdout import Arm, Holdout
from extracot_server.config.model_settings import ModelSettings, check_names
from extracot_server.config.settings import Settings, SettingsError
from extracot_server.engine.base import Engine, EngineDeadError, EngineStartError
from extracot_server.engine.pace import Pace
from extracot_server.errors import InvalidRequestError
from extracot_server.generation.request import ServedModel
from extracot_server.generation.service import ChatService
from extracot_server.model_registry.engine_handle import EngineHandle
from extracot_server.model_registry.loading import (
    build_engine,
    check_files,
    file_in_force,
    serve_models,
)
from extracot_server.model_registry.registry import AppState
from extracot_server.model_registry.routing import open_canaries
from extracot_server.model_registry.supervision import Supervisor
from extracot_server.observability.metrics import EngineFamilies, ServerMetrics
from extracot_server.observability.observer import ServerObserver
from extracot_server.observability.request_log import current_record

if TYPE_CHECKING:
    from extracot_server.observability.tracing import Tracing

log = logging.getLogger("extracot.server")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def create_app(
    settings: Settings,
    engine: Engine | Sequence[Engine] | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """The app for these settings. It starts engines when the server starts, and closes them.

    ``engine`` replaces the one the settings name, or as many as they have models, ``tracing`` what
    the settings say of it. Start-up raises :class:`~extracot_server.engine.base.EngineStartError`
    or :class:`~extracot.errors.CardError` in one line.
    """
    tracing = tracing or tracing_of(settings)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    metrics = ServerMetrics(registry)
    keys = KeyStore(settings.keys, settings.single_key())
    pace = Pace(settings.join_milliseconds / 1000)
    state = AppState(settings=settings, metrics=metrics, keys=keys, pace=pace)
    served = settings.served_models()
    if engine is None:
        engines = [build_engine(settings, model) for model in served]
    else:
        engines = list(engine) if isinstance(engine, Sequence) else [engine]
    for model, built in zip(served, engines, strict=True):
        scheduler = Scheduler(model.max_running, model.max_queued, state.rate_limits)
        state.engines.append(EngineHandle(built, RequestQueue(scheduler), metrics, model))
    registry.register(EngineFamilies(state.engine_collectors))

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            for model, running in zip(served, state.engines, strict=True):
                with _naming(state, model):
                    running.file = file_in_force(model)
                    check_files(model, running.engine)
            await state.open_usage()
            for model, running in zip(served, state.engines, strict=True):
                await start_model(state, model, running)
            open_canaries(state)
            keys.settle(state.check_keys)
            metrics.open_keys([principal.name for principal in keys.principals])
            if keys.refused is not None:
                metrics.keys_reloaded.set(0)
                log.error("%s; the current keys stay in force", keys.refused)
            await state.resume_usage()
            watches = [Supervisor(state, running).watch() for running in state.engines]
            watchers = [asyncio.create_task(watch) for watch in watches]
            try:
                async with batch_lines.running(app.state.batch_runner):
                    yield
            finally:
                for watcher in watchers:
                    watcher.cancel()
                await asyncio.gather(*watchers, return_exceptions=True)
        finally:
            for running in state.engines:
                running.mark(False, wanted=True)
            grace = settings.grace_seconds
            await asyncio.gather(*(running.engine.close(grace) for running in state.engines))
            await state.close_usage()
            if tracing is not None:
                await tracing.close()

    app = FastAPI(
        title="Extra-CoT Server",
        version=extracot.__version__,
        description="OpenAI-compatible chat completions with a reasoning budget.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.extracot = state
    app.state.held_items = HeldItems(settings.held_items_bytes, settings.held_items_seconds)
    app.state.reasoning_seal = ReasoningSeal(settings.reasoning_secret())
    app.state.batch_runner = batch_lines.batch_runner(app, state)
    for endpoints in (replies, tokenize, models, usage, upstreams, canary, files, batches, health):
        app.include_router(endpoints.router)
    for router in (replies.counting, files.reading, batches.plain, batches.reading):
        app.include_router(router)
    _add_error_handlers(app, state, tracing)
    install_openapi(app)
    install_docs_page(app)
    install_start_page(app, state)
    return app


async def start_model(state: AppState, settings: ModelSettings, running: EngineHandle) -> None:
    """Start one engine and serve what is on it."""
    with _naming(state, settings):
        await running.engine.start()
        for model in serve_models(settings, running.engine):
            add_model(state, running, model)


@contextlib.contextmanager
def _naming(state: AppState, settings: ModelSettings) -> Iterator[None]:
    """Of several models an error says whose it is."""
    try:
        yield
    except (EngineStartError, CardError, SettingsError) as error:
        if len(state.engines) == 1:
            raise
        servers = ", ".join(settings.upstream) or settings.upstreams
        label = settings.served_model_name or servers or settings.model
        raise type(error)(f"model {label}: {error}") from error


def tracing_of(settings: Settings) -> Tracing | None:
    """Spans as the settings want them; :class:`SettingsError` without the packages for it."""
    if settings.otlp_traces_endpoint is None:
        return None
    try:
        from extracot_server.observability.tracing import otlp_tracing
    except ImportError as error:
        raise SettingsError(
            f"otlp_traces_endpoint: {error}; install it with: pip install 'extracot[tracing]'"
        ) from None
    return otlp_tracing(settings.otlp_traces_endpoint)


def add_model(state: AppState, running: EngineHandle, model: ServedModel) -> None:
    """Serve a model whose engine has started."""
    try:
        check_names([*state.services, model.name])
    except ValueError as error:
        raise SettingsError(str(error)) from None
    settings = state.settings
    holdout = Holdout(
        settings.holdout_fraction, settings.holdout_seed, with_ceiling=settings.holdout_at_ceiling
    )
    observer = ServerObserver(state.metrics)
    service = ChatService(model, observer, running.queue, holdout, state.meter, state.pace)
    state.services[model.name] = service
    running.models.append(model.name)
    info = model.runtime.engine.info
    state.metrics.build_info.labels(
        extracot.__version__, info.kind, info.version, model.name, model.mode, info.device
    ).set(1)
    arms: tuple[Arm, ...] = ()
    if settings.holdout_fraction:
        arms = tuple(Arm) if settings.holdout_at_ceiling else (Arm.BUDGETED, Arm.HOLDOUT)
    state.metrics.open_model(model.name, model.card, arms)
    running.mark(True)


def _add_error_handlers(app: FastAPI, state: AppState, tracing: Tracing | None) -> None:
    def respond(error: HttpError, request: Request | None = None) -> JSONResponse:
        # One that has reached the engine is counted there, by how it ended.
        if (record := current_record()) is not None:
            record.error = error.reason
        if request is not None:
            request.state.error_code = error.code  # what a body in Anthropic's form does not say
        if request is None or not getattr(request.state, "running", False):
            state.metrics.rejected.labels(error.reason).inc()
        return ErrorReply(error)

    async def on_own(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, EngineDeadError):
            await state.check_engines()
        return respond(to_http(error), request)

    async def on_route(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        text = f"{error.detail}: {request.method} {request.url.path[:200]}"
        if error.status_code == 404:
            paths = [p for p in (getattr(r, "path", "") for r in app.routes) if "{" not in p]
            text = no_such_path(request.method, request.url.path, paths)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        kind, headers = "invalid_request_error", dict(error.headers or {})
        if "Allow" in headers:
            found = (route for route in app.routes if isinstance(route, Route))
            matching = [r for r in found if r.matches(request.scope)[0] is not Match.NONE]
            allowed = {method for route in matching for method in route.methods or ()}
            allowed |= {"HEAD"} if "GET" in allowed else set()
            headers["Allow"] = ", ".join(sorted(allowed))
        return respond(HttpError(error.status_code, text, kind, code=code, headers=headers))

    async def on_validation(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"][1:])
        wrong = InvalidRequestError(f"`{param}`: {first['msg']}.", param=param)
        return respond(to_http(wrong))

    async def on_gone(_: Request, __: Exception) -> Response:
        return Response(status_code=499)  # it left while sending its body

    app.add_exception_handler(ClientDisconnect, on_gone)
    app.add_exception_handler(ExtracotError, on_own)
    app.add_exception_handler(HTTPException, on_route)
    app.add_exception_handler(RequestValidationError, on_validation)

    def answer(error: Exception) -> JSONResponse:
        return respond(to_http(error))

    app.add_middleware(PermitMiddleware)
    app.add_middleware(
        KeyMiddleware,
        keys=state.keys,
        respond=answer,
        protect_metrics=state.settings.protect_metrics,
    )
    app.add_middleware(RequestIdMiddleware, respond=answer)  # outer: a 401 has an id too
    if state.settings.cors_origins:
        app.add_middleware(cors, origins=state.settings.cors_origins)
    app.add_middleware(  # the outermost: whatever became of a request, it is written down
        AccessMiddleware,
        routes=app.routes,
        keep_prompts=state.settings.log_prompts,
        tracing=tracing,
    )


class RequestIdMiddleware:
    """Gives every request an id (the client's own if sane) and every reply its header.

    It also answers unexpected errors: Starlette's own handler raises the error once more, and
    the server then drops the connection under a client that would use it again.
    """

    def __init__(self, app: ASGIApp, respond: Callable[[Exception], ASGIApp]) -> None:
        self._app = app
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"req-{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id

        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                if speaks_anthropic(scope["path"]):
                    headers["request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:  # a bug of ours: logged, and answered as every error is
            if started:
                raise
            log.exception("request %s failed", request_id)
            await self._respond(error)(scope, receive, send_with_id)


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document without starting anything."""
    app = create_app(Settings(engine="scripted"))
    document: dict[str, Any] = json.loads(json.dumps(app.openapi()))
    return document
