"""What every upstream of an engine must serve, and whether one does."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass

from extracot_server.engine.base import EngineError, EngineInfo
from extracot_server.engine.remote.catalog import ModelCard, UpstreamMismatchError, choose_model
from extracot_server.engine.remote.model import LocalModel
from extracot_server.engine.remote.upstream import Upstream
from extracot_server.engine.remote.wire import UpstreamFailure

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Promise:
    """A model, its context and its tokenizer; ``wanted`` is what the settings call the model."""

    wanted: str | None
    info: EngineInfo
    local: LocalModel

    async def compare(self, upstream: Upstream, card: ModelCard) -> None:
        """Raise :class:`UpstreamMismatchError` unless it serves what this engine promises."""
        name, length = self.info.model, card.max_model_len or 0
        if card.id != name:
            raise UpstreamMismatchError(f"upstream {upstream.url} serves {card.id}, not {name}")
        if length < self.info.max_model_len:
            raise UpstreamMismatchError(
                f"upstream {upstream.url} has a context of {length} tokens, "
                f"less than the {self.info.max_model_len} served here"
            )
        local = self.local
        theirs = await upstream.tokenize(card.id, local.probe)
        if theirs is not None and theirs != local.tokenizer.encode(
            local.probe, add_special_tokens=False
        ):
            raise UpstreamMismatchError(
                f"upstream {upstream.url} has another tokenizer than {local.source}; "
                "give the served model's own with --tokenizer"
            )

    async def take_in(self, upstream: Upstream) -> None:
        """Let one that is out serve, if it keeps the promise.

        Raises :class:`UpstreamMismatchError`, and :class:`UpstreamFailure` where it does not
        answer.
        """
        await self._ask(upstream)
        upstream.admit()

    async def confirm(self, upstream: Upstream) -> None:
        """Raise :class:`UpstreamMismatchError` where one that serves has ceased to keep it.

        That it does not say what it serves is no proof.
        """
        with contextlib.suppress(UpstreamFailure):
            await self._ask(upstream)

    async def _ask(self, upstream: Upstream) -> None:
        cards = await upstream.models()
        card = choose_model(cards, self.wanted or self.info.model, upstream.url)
        await self.compare(upstream, card)

    async def meet(self, upstream: Upstream) -> None:
        """The same for one that is new; where it does not answer it is left out until it does.

        A drained one is left out as well where it serves something else: it is being serviced.
        """
        try:
            await upstream.check_health()
            await self.take_in(upstream)
        except UpstreamFailure as failure:
            leave_out(upstream, failure)
        except UpstreamMismatchError as error:
            if not upstream.draining:
                raise
            leave_out(upstream, error)


def leave_out(upstream: Upstream, failure: EngineError) -> None:
    """Give it no requests until it is found to be well."""
    upstream.quarantine(str(failure))
    _log.warning("upstream %s is left out until it answers: %s", upstream.url, failure)
