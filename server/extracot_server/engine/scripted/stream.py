"""One scripted reply as the engine sends it: limits, stop ids, biases, log-probabilities.

What is said comes from :mod:`extracot_server.engine.scripted.model`; here it is bounded as a
request asks. Time, grouping and death are the engine's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, Literal

from extracot_server.engine.base import (
    AnswerFormat,
    EngineInfo,
    GenerationRequest,
    TokenLogprob,
)
from extracot_server.engine.scripted.grammar import value_of
from extracot_server.engine.scripted.model import (
    ScriptedBehaviour,
    ScriptedReply,
    digest,
    read_context,
)
from extracot_server.engine.scripted.tokenizer import ScriptedTokenizer


class RequestStream:
    """The tokens of one request, before time and grouping come in."""

    def __init__(
        self,
        tokenizer: ScriptedTokenizer,
        info: EngineInfo,
        behaviour: ScriptedBehaviour,
        request: GenerationRequest,
    ) -> None:
        self._tokenizer = tokenizer
        self._request = request
        self._ends = info.eos_token_ids
        self._seed = request.sampling.seed or 0
        context = read_context(self._tokenizer, request.token_ids)
        self._problem = context.problem
        self._reply = ScriptedReply(self._tokenizer, context, self._seed, behaviour)
        room = info.max_model_len - len(request.token_ids)
        self._limit = min(request.max_tokens, room)
        told = behaviour.cached_tokens
        known = len(request.token_ids) - 1 if request.continues else told
        self.cached_tokens = None if told is None else known
        """How much of its prompt came from a prefix cache, as the script says."""
        self._script = self._choose_script()

    def _choose_script(self) -> Iterator[int]:
        request = self._request
        if request.allowed_token_ids is not None:
            return self._choices(request.allowed_token_ids)
        if request.answer_format is not None:
            return iter(self._formatted(request.answer_format))
        return self._reply.rest()

    def _choices(self, allowed: tuple[int, ...]) -> Iterator[int]:
        temperature = self._request.sampling.temperature
        if not self._reply.are_levels(allowed):
            yield self._likeliest(allowed)
            return
        start = len(self._request.token_ids)
        for position in range(start, start + self._limit):
            yield self._reply.choose(allowed, position, 1.0 if temperature is None else temperature)

    def _likeliest(self, allowed: tuple[int, ...]) -> int:
        """The first of the script's next tokens that is allowed, else the first of ``allowed``."""
        return next((id_ for id_ in islice(self._reply.rest(), 8) if id_ in allowed), allowed[0])

    def _formatted(self, wanted: AnswerFormat) -> list[int]:
        value: Any = {"answer": self._reply.answer_value}
        if wanted.kind == "json_schema":
            value = self._reply.calls_in(wanted) or value_of(wanted)
        return [*self._tokenizer.encode(json.dumps(value)), self._tokenizer.turn_end_id]

    def tokens(self) -> Iterator[tuple[int, Literal["stop", "length"] | None]]:
        """Each id with the finish reason it brings, up to the first end."""
        sampling = self._request.sampling
        stops = frozenset(self._request.stop_token_ids)
        ends = stops if sampling.ignore_eos else stops | self._ends
        banned = {token for token, bias in sampling.logit_bias.items() if bias <= -100}
        forced = [token for token, bias in sampling.logit_bias.items() if bias >= 100]
        filler = self._reply.filler()
        put_off: int | None = None
        for count, scripted in enumerate(chain(self._script, filler), start=1):
            token = forced[0] if forced else scripted
            if put_off is not None and count >= sampling.min_tokens:
                token = put_off
            elif count < sampling.min_tokens and token in (stops | self._ends):
                put_off, token = token, next(filler)
            if token in banned or (sampling.ignore_eos and token in self._ends):
                token = next((word for word in islice(filler, 200) if word not in banned), token)
            if token in ends:
                yield token, "stop"
                return
            if count >= self._limit:
                yield token, "length"
                return
            yield token, None

    def logprobs(self, group: list[int], sent: int) -> tuple[TokenLogprob, ...] | None:
        """Made-up but fixed log-probabilities of a delta whose first id is number ``sent``."""
        allowed, wanted = self._request.allowed_token_ids, self._request.sampling.logprobs
        if allowed is not None:
            chances = {id_: math.log(self._reply.level_probability(id_)) for id_ in allowed}
            return tuple(TokenLogprob(id_, chances[id_], tuple(chances.items())) for id_ in group)
        if wanted is None:
            return None
        start = len(self._request.token_ids) + sent
        return tuple(self._logprob(id_, start + n, wanted) for n, id_ in enumerate(group))

    def _logprob(self, token: int, position: int, wanted: int) -> TokenLogprob:
        mixed = digest(self._problem, self._seed, position)
        own = -0.01 - (mixed % 100) / 150
        others = (mixed + 1 + n for n in range(wanted + 1))
        ranked = [(id_ % len(self._tokenizer), own - 1.0 - n) for n, id_ in enumerate(others)]
        rivals = [pair for pair in ranked if pair[0] != token]
        return TokenLogprob(token, own, ((token, own), *rivals)[:wanted])
