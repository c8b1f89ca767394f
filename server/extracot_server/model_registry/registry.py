"""What the endpoints share: settings, models, metrics, and whether the engine is up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prometheus_client.registry import Collector

from extracot_server.admission.keys import ANONYMOUS, KeysError, KeyStore, Principal
from extracot_server.admission.scheduler import RateLimits
from extracot_server.budget.resolve import BudgetPolicy, policy_level
from extracot_server.budget.values import Target, parse_alias
from extracot_server.config.settings import Settings
from extracot_server.engine.pace import Pace
from extracot_server.errors import InvalidRequestError, ModelNotFoundError
from extracot_server.generation.service import ChatService
from extracot_server.ledger.meter import Meter
from extracot_server.ledger.open import open_ledger
from extracot_server.model_registry.engine_handle import EngineHandle
from extracot_server.observability.metrics import ServerMetrics

log = logging.getLogger("extracot.server")


@dataclass(slots=True)
class AppState:
    """The state of one app, kept on ``app.state.extracot``."""

    settings: Settings
    metrics: ServerMetrics
    keys: KeyStore = field(default_factory=KeyStore)
    rate_limits: RateLimits = field(default_factory=RateLimits)
    services: dict[str, ChatService] = field(default_factory=dict)
    engines: list[EngineHandle] = field(default_factory=list)
    meter: Meter = field(default_factory=Meter)
    pace: Pace = field(default_factory=Pace)
    reloading: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while files are read again: what two reloads found must not mix."""
    give_up: Callable[[], object] = lambda: None
    """Ends the server; set by the command."""

    def usable(self, principal: Principal) -> dict[str, ChatService]:
        """The services this principal may use, by model name."""
        return {name: found for name, found in self.services.items() if principal.may_use(name)}

    def find(
        self, name: str | None, principal: Principal = ANONYMOUS
    ) -> tuple[ChatService, Target | None]:
        """The service of a model name or alias; :class:`ModelNotFoundError` for any other."""
        services = self.usable(principal)
        if name is None and len(services) > 1:
            raise InvalidRequestError(
                f"Several models are served here: name one. Allowed: {', '.join(services)}.",
                param="model",
            )
        if name is None and services:
            return next(iter(services.values())), None
        if name is None or not services:
            raise ModelNotFoundError(name, ())
        if name in services:
            return services[name], None
        base, _, suffix = name.rpartition("@")
        alias = parse_alias(suffix)
        if base not in services or alias is None:
            meant = services.get(base)
            aliases = meant.model.aliases if meant is not None else ()
            raise ModelNotFoundError(name, list(services), aliases)
        return services[base], alias

    async def open_usage(self) -> None:
        """Reach the store of usage: before engines, for a wrong one must not cost their start.

        Raises ``config.settings.SettingsError`` in one line.
        """
        self.metrics.show_store(True, 0)
        # A canary may be added to an upstreams file later, and the store stays what it is now.
        compares = any(handle.settings.upstreams is not None for handle in self.engines)
        lasting = self.keys.required or self.settings.holdout_fraction > 0 or compares
        ledger = await asyncio.to_thread(open_ledger, self.settings, lasting=lasting)
        if ledger is None:
            if any(principal.quotas for principal in self.keys.principals):
                log.warning("usage_store is off: the quotas in the keys file are not enforced")
            return
        ledger.told = self.metrics.show_store
        self.meter.ledger, self.meter.lost = ledger, self.settings.usage_store_lost
        self.meter.told = self.metrics.quotas.show

    async def resume_usage(self) -> None:
        """Go on with the holdouts that the store holds. Before the first request."""
        if self.meter.ledger is None:
            return
        kept = await self.meter.found_before()
        for service in self.services.values():
            mine, name = {}, service.holdout_name
            for key, value in kept.items():
                if key.startswith(name):
                    mine[key.removeprefix(name)] = value
            service.holdout.restore(mine)

    async def close_usage(self) -> None:
        """Write what is not in the store yet."""
        await self.meter.close()

    def without_holdout(self) -> list[str]:
        """The keys none of whose requests may run natively, where there is a holdout.

        ``every request`` where the server's own ceiling keeps all of them from it.
        """
        if not self.settings.holdout_fraction:
            return []

        def held(policy: BudgetPolicy) -> bool:
            ratio = policy.ceiling is not None and policy.ceiling < 1
            return policy.reasoning_tokens_ceiling is not None or (
                ratio and not self.settings.holdout_at_ceiling
            )

        policies = [service.model.policy for service in self.services.values()]
        if policies and all(held(policy) for policy in policies):
            return ["every request"]
        return [
            f"key {principal.name}"
            for principal in self.keys.principals
            if policies and all(held(principal.narrow(policy)) for policy in policies)
        ]

    def reload_keys(self) -> str:
        """Read the keys file again, and say what is new; ``KeysError`` changes nothing else."""
        before = {principal.name: principal for principal in self.keys.principals}
        self.metrics.keys_reloaded.set(0)
        rotated = self.keys.reload(self.check_keys)
        self.metrics.keys_reloaded.set(1)
        after = {principal.name: principal for principal in self.keys.principals}
        self.metrics.open_keys(after)
        quotas = [quota for principal in after.values() for quota in principal.quotas]
        self.metrics.quotas.keep(quotas)
        self.meter.keep(quotas)
        changed = {name for name in before.keys() & after.keys() if before[name] != after[name]}
        told = {
            "added": after.keys() - before.keys(),
            "removed": before.keys() - after.keys(),
            "changed": changed,
            "new secret of": rotated,
        }
        parts = [f"{word} {', '.join(sorted(names))}" for word, names in told.items() if names]
        return "; ".join(parts) or "nothing of what they may do has changed"

    def check_keys(self, principals: Sequence[Principal]) -> None:
        """Whether these principals' keys fit the models that are served.

        Raises ``admission.keys.KeysError`` for a default that no request of a key
        could use; a model that is not served is only said.
        """
        for principal in principals:
            for name, service in self.usable(principal).items():
                if principal.default == "auto" and policy_level(service.model.card) is None:
                    raise KeysError(
                        f"key {principal.name}: default is auto, but {name} has no policy token"
                    )
            for model in sorted((principal.models or frozenset()) - set(self.services)):
                log.warning("key %s may use model %s, which is not served", principal.name, model)

    def engine_of(self, model: str) -> EngineHandle:
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
        """Refuse new requests; running ones go on."""
        for engine in self.engines:
            engine.queue.close()

    async def drop(self) -> None:
        """End what still runs, on every engine."""
        await asyncio.gather(*(engine.drop() for engine in self.engines))

    async def check_engines(self) -> None:
        """Ask every engine that is believed to be up for its health and remember the answers."""
        await asyncio.gather(*(engine.check() for engine in self.engines if engine.up))
