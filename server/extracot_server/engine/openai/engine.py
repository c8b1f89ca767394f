"""OpenAI-compatible servers elsewhere as one engine that is asked by chat messages.

Which server is asked, when another one is tried, and their health are the remote engine's. Here
``generate`` takes a :class:`~extracot_server.engine.openai.turn.ChatTurn`, and its deltas hold what
the server has said. Token ids are unknown: the tokenizer is the model's own where the settings name
one, else a stand-in that only knows about how long a text is.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from extracot_server.config.offers import Kind, Offers, kind_of, offers_of
from extracot_server.config.upstreams_file import UpstreamSettings
from extracot_server.engine.base import (
    CALLS_FIELD,
    AnswerFormat,
    EngineRequestError,
    EngineStartError,
    GenerationRequest,
)
from extracot_server.engine.openai.estimate import EstimatingTokenizer
from extracot_server.engine.openai.turn import ChatTurn
from extracot_server.engine.openai.upstream import ChatUpstream
from extracot_server.engine.remote.catalog import ModelCard, UpstreamMismatchError
from extracot_server.engine.remote.engine import RemoteEngine
from extracot_server.engine.remote.model import LocalModel, load_local_model
from extracot_server.engine.remote.promise import Promise, leave_out
from extracot_server.engine.remote.upstream import Upstream, UpstreamTimes

_log = logging.getLogger(__name__)
_SAY_WHICH = "say which with upstream_offers kind=…, or make each a model of its own"


@dataclass(frozen=True, slots=True)
class _ChatPromise(Promise):
    """Also a kind, by which servers are asked; ``None``: the settings say what all of them are, or
    it is not known yet."""

    kind: Kind | None = None

    async def compare(self, upstream: Upstream, card: ModelCard) -> None:
        """See :class:`~extracot_server.engine.remote.promise.Promise`."""
        if self.kind is not None and _kind(upstream) != self.kind:
            raise _other_kind(upstream, self.kind)
        await Promise.compare(self, upstream, card)  # no super(): slots make another class of this


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
        kind = self._given.get("kind") or self._kind_found()
        self._offers = offers_of(self._given, kind)
        self._info = replace(self.info, kind="openai")
        how = "can" if self._offers.can_continue else "cannot"
        _log.info("upstreams are of kind %s; reasoning %s be cut off", kind, how)

    def _kind_found(self) -> Kind:
        """The kind of all that serve; a drained one of another kind is left out."""
        found = [up for up in self._upstreams if up.down is None]
        kinds = {_kind(up) for up in found if not up.draining} or {_kind(up) for up in found}
        if len(kinds) > 1:
            raise EngineStartError(
                f"upstreams are of several kinds ({', '.join(sorted(kinds))}): {_SAY_WHICH}"
            )
        (kind,) = kinds
        for upstream in found:
            if _kind(upstream) != kind:
                leave_out(upstream, _other_kind(upstream, kind))
        return kind

    @property
    def _keeping(self) -> Promise:
        kind = self._offers.kind if self._offers and "kind" not in self._given else None
        return _ChatPromise(self._wanted, self.info, self._model, kind)

    def _check_request(self, request: GenerationRequest) -> None:
        assert isinstance(request, ChatTurn)

    async def check_format(self, wanted: AnswerFormat) -> None:
        """Formats are the servers' business; whether there are any is checked before.

        A forced call needs none: the server is told which tool to call.
        """
        if wanted.field != CALLS_FIELD and not self.offers.formats:
            what = "the servers behind this model hold answers to no format"
            raise EngineRequestError(what, param=wanted.field)


def _kind(upstream: Upstream) -> Kind:
    assert isinstance(upstream, ChatUpstream)
    return kind_of(upstream.owner)


def _other_kind(upstream: Upstream, kind: Kind) -> UpstreamMismatchError:
    return UpstreamMismatchError(
        f"upstream {upstream.url} is of kind {_kind(upstream)}, the model's others are of kind "
        f"{kind}: {_SAY_WHICH}"
    )


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
