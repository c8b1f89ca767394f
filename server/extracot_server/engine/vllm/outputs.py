"""vLLM's outputs of one request: kept for whoever reads them, or taken at once by its receiver.

vLLM's loop makes an object of each token, puts it into a collector and wakes its reader. While that
reader waits for nothing else, the request's receiver is offered the token before, so most tokens
wake nobody and become no object. Knows no engine: the collector is vLLM's
``RequestOutputCollector``, the state its ``RequestState``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Any

from extracot_server.engine.base import GenerationDelta, GenerationRequest


async def outputs_of(
    llm: Any, adding: Awaitable[Any], request: GenerationRequest
) -> AsyncGenerator[Any, None]:
    """What an ``AsyncLLM`` puts out for a request that is being added, but for what is taken.

    As its ``generate`` does, whose generator would have to be woken for every token.
    """
    collector = await adding
    state = llm.output_processor.request_states.get(collector.request_id)
    outputs, finished = _Outputs(collector, state, request), False
    try:
        while not finished:
            output = await outputs.next()
            finished = output.finished
            yield output
    finally:
        if not finished and not llm.errored:
            await llm.abort(outputs.request_id, internal=True)


class _Outputs:
    """What vLLM puts out for ``request`` from here on, ``state`` being its own of that."""

    def __init__(self, collector: Any, state: Any, request: GenerationRequest) -> None:
        self.request_id: str = collector.request_id
        """vLLM's own name of it."""
        self._collector = collector
        self._state, self._request = state, request
        self._waiting = False
        """The reader has read all there was, and waits."""
        plain = request.sampling.logprobs is None and request.allowed_token_ids is None
        # Where it collects tokens itself, it counts from those that it has handed out.
        if request.receiver is not None and plain and getattr(state, "stream_interval", 0) == 1:
            self._make = state.make_request_output
            state.make_request_output = self._made

    async def next(self) -> Any:
        """The next output that was not taken; what vLLM has put in the place of one is raised."""
        if (found := self._collector.get_nowait()) is not None:
            return found
        self._waiting = True
        try:
            return await self._collector.get()
        finally:
            self._waiting = False

    def _made(
        self,
        new_token_ids: Sequence[int],
        pooling_output: Any,
        finish_reason: Any,
        *rest: Any,
        **named: Any,
    ) -> Any:
        """In place of the state's ``make_request_output``, for whose ``None`` nobody is woken."""
        receiver = self._request.receiver
        if (
            finish_reason is None
            and self._waiting
            and receiver is not None
            and self._collector.output is None
            and receiver.take(self._delta(new_token_ids), self._request.hold)
        ):
            return None
        return self._make(new_token_ids, pooling_output, finish_reason, *rest, **named)

    def _delta(self, token_ids: Sequence[int]) -> GenerationDelta:
        return GenerationDelta(tuple(token_ids), cached_tokens=self._state.num_cached_tokens)
