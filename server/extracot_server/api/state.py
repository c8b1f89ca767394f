"""What the endpoints share: settings, models, metrics, and whether the engine is up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prometheus_client.registry import Collector
from starlette.requests import Request

from extracot_server.budget import policy_level
from extracot_server.budget_values import Target, parse_alias
from extracot_server.errors import InvalidRequestError, ModelNotFoundError
from extracot_server.keys import ANYBODY, Caller, KeysError, KeyStore
from extracot_server.metrics import ServerMetrics
from extracot_server.running import RunningEngine
from extracot_server.serving import ChatService
from extracot_server.settings import Settings

log = logging.getLogger("extracot.server")


@dataclass(slots=True)
class AppState:
    """The state of one app, kept on ``app.state.extracot``."""

    settings: Settings
    metrics: ServerMetrics
    keys: KeyStore = field(default_factory=KeyStore)
    services: dict[str, ChatService] = field(default_factory=dict)
    engines: list[RunningEngine] = field(default_factory=list)
    give_up: Callable[[], object] = lambda: None
    """Ends the server; set by whoever runs it."""

    def usable(self, caller: Caller) -> dict[str, ChatService]:
        """The services this caller may use, by model name."""
        return {name: found for name, found in self.services.items() if caller.may_use(name)}

    def find(self, name: str | None, caller: Caller = ANYBODY) -> tuple[ChatService, Target | None]:
        """The service of a model name or alias; :class:`ModelNotFoundError` for any other."""
        services = self.usable(caller)
        if name is None and len(services) > 1:
            raise InvalidRequestError(
                f"Several models are served here: say which one. Allowed: {', '.join(services)}.",
                param="model",
            )
        if name is None and services:
            return next(iter(services.values())), None
        name = name or ""
        if name in services:
            return services[name], None
        base, _, suffix = name.rpartition("@")
        alias = parse_alias(suffix)
        if base not in services or alias is None:
            raise ModelNotFoundError(name, list(services))
        return services[base], alias

    def reload_keys(self) -> None:
        """Read the keys file anew; :class:`~extracot_server.keys.KeysError` changes nothing."""
        self.keys.reload(self.check_keys)

    def check_keys(self, callers: Sequence[Caller]) -> None:
        """Whether these callers' keys fit the models that are served.

        Raises :class:`~extracot_server.keys.KeysError` for a default that no request of a key
        could use; a model that is not served is only said.
        """
        for caller in callers:
            for name, service in self.usable(caller).items():
                if caller.default == "auto" and policy_level(service.model.card) is None:
                    raise KeysError(
                        f"key {caller.name}: default is auto, but {name} has no policy token"
                    )
            for model in sorted((caller.models or frozenset()) - set(self.services)):
                log.warning("key %s may use model %s, which is not served", caller.name, model)

    def engine_of(self, model: str) -> RunningEngine:
        """The engine that serves a model of this server."""
        return next(engine for engine in self.engines if model in engine.models)

    def engine_collectors(self) -> list[Collector]:
        """What engines in this process show in metrics themselves."""
        return [c for running in self.engines for c in getattr(running.engine, "collectors", ())]

    @property
    def ready(self) -> bool:
        """Whether any model can be asked: engines come and go one by one."""
        return any(engine.up for engine in self.engines)

    def stop(self) -> None:
        """Let nobody in any more; what runs goes on."""
        for engine in self.engines:
            engine.turnstile.close()

    async def drop(self) -> None:
        """End what still runs, on every engine."""
        await asyncio.gather(*(engine.drop() for engine in self.engines))

    async def check_engines(self) -> None:
        """Ask every engine that is believed to be up for its health and remember the answers."""
        await asyncio.gather(*(engine.check() for engine in self.engines if engine.up))


def app_state(request: Request) -> AppState:
    """The state of the app that serves this request."""
    state: AppState = request.app.state.extracot
    return state
