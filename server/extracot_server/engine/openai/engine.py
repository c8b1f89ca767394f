"""OpenAI-compatible servers elsewhere as one engine that is asked by chat messages.

Which server is asked, when another one is tried, and their health are the remote engine's. Here
``generate`` takes a :class:`~extracot_server.engine.openai.turn.ChatTurn`, and its deltas hold what
the server has said. Token ids are unknown: the tokenizer is the model's own where the settings name
one, else a stand-in that only knows about how long a text is.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from extracot_server.config.offers import Offers, kind_of, offers_of
from extracot_server.config.upstreams_file import UpstreamSettings
from extracot_server.engine.base import (
    AnswerFormat,
    EngineRequestError,
    EngineStartError,
    GenerationRequest,
)
from extracot_server.engine.openai.estimate import EstimatingTokenizer
from extracot_server.engine.openai.turn import ChatTurn
from extracot_server.engine.openai.upstream import ChatUpstream
from extracot_server.engine.remote.engine import RemoteEngine
from extracot_server.engine.remote.model import LocalModel, load_local_model
from extracot_server.engine.remote.upstream import Upstream, UpstreamTimes

_log = logging.getLogger(__name__)


class OpenAIEngine(RemoteEngine):
    """An :class:`~extracot_server.engine.base.Engine` of one or more OpenAI-compatible servers.

    ``offers`` is the setting of that name: what the servers take, where it is not what their kind
    does. The rest is the remote engine's.
    """

    upstream_class: type[Upstream] = ChatUpstream

    def __init__(
        self,
        upstreams: Sequence[str | UpstreamSettings],
        *,
        offers: Mapping[str, Any] | None = None,
        canary: Collection[str] = (),
        model: str | None = None,
        tokenizer_path: str | None = None,
        api_key: str | Sequence[str | None] | None = None,
        health_seconds: float = 5.0,
        times: UpstreamTimes | None = None,
    ) -> None:
        self._given = dict(offers or {})
        self._model_name = model
        self._offers: Offers | None = None
        super().__init__(
            upstreams,
            canary=canary,
            model=model,
            tokenizer_path=tokenizer_path,
            api_key=api_key,
            health_seconds=health_seconds,
            times=times,
            load_model=load_local_model if tokenizer_path is not None else _stand_in,
        )

    def _connect(self, settings: UpstreamSettings) -> Upstream:
        upstream = super()._connect(settings)
        assert isinstance(upstream, ChatUpstream)
        upstream.wanted, upstream.context = self._model_name, self._given.get("context")
        return upstream

    @property
    def offers(self) -> Offers:
        """What its servers offer; valid after :meth:`start`."""
        if self._offers is None:
            raise EngineStartError("the engine has not been started")
        return self._offers

    async def _start(self) -> None:
        await super()._start()
        found = [up for up in self._upstreams if up.down is None]
        owners = {up.owner for up in found if isinstance(up, ChatUpstream)}
        kinds = {kind_of(owner) for owner in owners}
        kind = self._given.get("kind")
        if kind is None and len(kinds) > 1:
            raise EngineStartError(
                f"upstreams are of several kinds ({', '.join(sorted(kinds))}): say which with "
                "upstream_offers kind=…, or make each a model of its own"
            )
        kind = kind or next(iter(kinds))
        self._offers = offers_of(self._given, kind)
        self._info = replace(self.info, kind="openai")
        how = "can" if self._offers.can_continue else "cannot"
        _log.info("upstreams are of kind %s; reasoning %s be cut off", kind, how)

    def _check_request(self, request: GenerationRequest) -> None:
        assert isinstance(request, ChatTurn)

    async def check_format(self, wanted: AnswerFormat) -> None:
        """Formats are the servers' business; whether there are any is checked before."""
        if not self.offers.formats:
            what = "the servers behind this model hold answers to no format"
            raise EngineRequestError(what, param=wanted.field)


def _stand_in(source: str) -> LocalModel:
    """What a model is without its tokenizer."""
    tokenizer = EstimatingTokenizer()
    return LocalModel(
        source=source,
        tokenizer=tokenizer,
        eos_token_ids=frozenset({tokenizer.turn_end_id}),
        vocab_size=len(tokenizer),
        defaults={},
    )
