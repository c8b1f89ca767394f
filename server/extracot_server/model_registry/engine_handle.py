"""A running engine: the models it serves, the queue in front of it, and whether it is up.

Of several engines in one server each has its own of these, so that one that dies takes no other
with it. Knows no HTTP and no engine in particular.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from extracot_server.admission.queue import RequestQueue
from extracot_server.config.model_settings import ModelSettings
from extracot_server.config.upstreams_file import UpstreamsFile
from extracot_server.engine.base import Engine, EngineClosedError, EngineDeadError, Fronting
from extracot_server.observability.metrics import ServerMetrics

log = logging.getLogger("extracot.server")


@dataclass(eq=False, slots=True)
class EngineHandle:
    """One engine and its state. ``models`` are the names clients use."""

    engine: Engine
    queue: RequestQueue
    metrics: ServerMetrics
    settings: ModelSettings = field(default_factory=ModelSettings)
    file: UpstreamsFile = field(default_factory=UpstreamsFile)
    """What is in force of the model's upstreams file."""
    models: list[str] = field(default_factory=list)
    up: bool = False
    note: str = "engine down"
    """What ``/ready`` says while it is not up."""
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is found to be down."""

    def mark(self, up: bool, *, wanted: bool = False) -> None:
        """Remember its health; a change is logged, an unwanted death as an error."""
        if up != self.up:
            level = logging.INFO if up or wanted else logging.ERROR
            log.log(level, "engine of %s %s", ", ".join(self.models), "up" if up else "down")
            self.note = "engine down"
            if not up and not wanted:
                self.lost.set()
        self.up = up
        for name in self.models:
            self.metrics.engine_up.labels(name).set(1 if up else 0)
        self.show_upstreams()

    def show_upstreams(self) -> None:
        """Say in metrics how the servers behind it stand, if there are any."""
        if isinstance(self.engine, Fronting):
            self.metrics.routing.show_upstreams(self.models, self.engine.upstreams())

    async def check(self) -> None:
        """Ask it for its health and remember the answer."""
        try:
            await self.engine.check_health()
        except EngineClosedError:
            self.mark(False, wanted=True)
        except EngineDeadError as error:
            if self.up:
                log.error("%s", error)
            self.mark(False)
        else:
            self.mark(True)

    async def drop(self) -> None:
        """End what still runs on it; each reply becomes an error that says so."""
        self.queue.close()
        self.mark(False, wanted=True)
        await self.engine.close(0)
