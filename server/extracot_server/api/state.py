"""What the endpoints share: settings, models, metrics, and whether the engine is up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request

from extracot_server.admission import Scheduler
from extracot_server.budget import policy_level
from extracot_server.budget_values import Target, parse_alias
from extracot_server.engine.base import EngineClosedError, EngineDeadError
from extracot_server.errors import ModelNotFoundError
from extracot_server.keys import ANYBODY, Caller, KeysError, KeyStore
from extracot_server.metrics import ServerMetrics
from extracot_server.serving import ChatService
from extracot_server.settings import Settings
from extracot_server.turnstile import Turnstile

log = logging.getLogger("extracot.server")


@dataclass(slots=True)
class AppState:
    """The state of one app, kept on ``app.state.extracot``."""

    settings: Settings
    metrics: ServerMetrics
    keys: KeyStore = field(default_factory=KeyStore)
    turnstile: Turnstile = field(default_factory=lambda: Turnstile(Scheduler()))
    services: dict[str, ChatService] = field(default_factory=dict)
    engine_up: bool = False
    engine_note: str = "engine down"
    """What ``/ready`` says while the engine is not up."""
    engine_lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when somebody notices that the engine is gone."""
    give_up: Callable[[], object] = lambda: None
    """Ends the server; set by whoever runs it."""

    def usable(self, caller: Caller) -> dict[str, ChatService]:
        """The services this caller may use, by model name."""
        return {name: found for name, found in self.services.items() if caller.may_use(name)}

    def find(self, name: str | None, caller: Caller = ANYBODY) -> tuple[ChatService, Target | None]:
        """The service of a model name or alias; :class:`ModelNotFoundError` for any other."""
        services = self.usable(caller)
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

    def mark_engine(self, up: bool, *, wanted: bool = False) -> None:
        """Remember the engine's health; a change is logged, an unwanted death as an error."""
        if up != self.engine_up:
            level = logging.INFO if up or wanted else logging.ERROR
            log.log(level, "engine %s", "up" if up else "down")
            self.engine_note = "engine down"
            if not up and not wanted:
                self.engine_lost.set()
        self.engine_up = up
        for name in self.services:
            self.metrics.engine_up.labels(name).set(1 if up else 0)

    def stop(self) -> None:
        """Let nobody in any more; what runs goes on."""
        self.turnstile.close()

    async def drop(self) -> None:
        """End what still runs: each reply becomes an error that says that the server stops."""
        self.stop()
        self.mark_engine(False, wanted=True)
        engines = [service.model.tools.engine for service in self.services.values()]
        await asyncio.gather(*(engine.close(0) for engine in engines))

    async def check_engine(self) -> None:
        """Ask every engine for its health and remember the answer."""
        try:
            for service in self.services.values():
                await service.model.tools.engine.check_health()
        except EngineClosedError:
            self.mark_engine(False, wanted=True)
        except EngineDeadError as error:
            if self.engine_up:
                log.error("%s", error)
            self.mark_engine(False)
        else:
            self.mark_engine(True)


def app_state(request: Request) -> AppState:
    """The state of the app that serves this request."""
    state: AppState = request.app.state.extracot
    return state
