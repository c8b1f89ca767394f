"""A deterministic engine that needs no model: the real server runs on it in tests and trials.

It obeys the engine protocol to the letter (limits, stop ids, logprobs, aborts, death) and its
words come from :mod:`extracot_server.engine.scripted.model`. Nothing here measures a model.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import extracot
from extracot.card import BudgetCard, tokenizer_hash
from extracot.control import DEFAULT_RATIOS, POLICY_TOKEN, level_token
from extracot_server.engine.base import (
    AnswerFormat,
    EngineClosedError,
    EngineDeadError,
    EngineError,
    EngineInfo,
    EngineStartError,
    GenerationDelta,
    GenerationRequest,
)
from extracot_server.engine.grammar_checks import OwnChecks
from extracot_server.engine.request_checks import check_request
from extracot_server.engine.scripted.grammar import check_scripted
from extracot_server.engine.scripted.model import NATURAL_TOKENS, REALISED_RATIOS
from extracot_server.engine.scripted.model import ScriptedBehaviour as ScriptedBehaviour
from extracot_server.engine.scripted.stream import RequestStream
from extracot_server.engine.scripted.tokenizer import THINK_END, THINK_START, ScriptedTokenizer

_REQUESTS_KEPT = 1024
_ANSWER_TOKENS = 9


class ScriptedEngine:
    """An :class:`~extracot_server.engine.base.Engine` driven by a script.

    ``requests`` holds the last requests seen, refused ones included, so a test can assert that
    nothing was sent. ``info`` and ``tokenizer`` are valid before ``start`` too.
    """

    def __init__(
        self,
        behaviour: ScriptedBehaviour | None = None,
        *,
        model: str = "scripted",
        adapters: Mapping[str, str] | None = None,
    ) -> None:
        self.behaviour = behaviour or ScriptedBehaviour()
        self.adapters = dict(adapters or {})
        self.requests: deque[GenerationRequest] = deque(maxlen=_REQUESTS_KEPT)
        self.tokenizer = ScriptedTokenizer(
            tags_as_text=self.behaviour.tags_as_text,
            template_opens_think=self.behaviour.template_opens_think,
        )
        self.info = EngineInfo(
            kind="scripted",
            version=extracot.__version__,
            model=model,
            device="none",
            max_model_len=self.behaviour.max_model_len,
            vocab_size=len(self.tokenizer),
            eos_token_ids=frozenset({self.tokenizer.turn_end_id, self.tokenizer.text_end_id}),
        )
        self._formats = OwnChecks(check_scripted)
        self._down: str | None = "the engine has not been started"
        self._closed = False
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Be ready at once, or fail where the behaviour has a start error."""
        if self.behaviour.start_error is not None:
            raise EngineStartError(self.behaviour.start_error)
        self._down, self._closed = None, False

    def die(self, reason: str = "the engine process died") -> None:
        """Fail everything that runs and comes, as a crashed engine would."""
        self._down = reason

    async def restart(self) -> None:
        """Start again, or fail as :meth:`start` does; what ran has failed with the death."""
        await self.start()

    async def check_health(self) -> None:
        """Raise :class:`EngineDeadError` before ``start``, after ``close`` and after a death."""
        if self._closed:
            raise EngineClosedError
        if self._down is not None:
            raise EngineDeadError(self._down)

    async def in_flight(self) -> int:
        """Requests whose generator has begun and not ended; exact."""
        return self._running

    async def close(self, grace_seconds: float) -> None:
        """Wait up to ``grace_seconds`` for running requests, then drop them."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self._idle.wait()
        self._closed = True

    async def check_format(self, wanted: AnswerFormat) -> None:
        """Refuse a schema that the script has no value for, and what vLLM would refuse."""
        await self._formats.check(wanted)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        """Stream the script's continuation of ``request.token_ids``."""
        self.requests.append(request)
        await self.check_health()
        if self.behaviour.reject_with is not None:
            raise self.behaviour.reject_with
        check_request(request, self.info)
        self._running += 1
        self._idle.clear()
        try:
            async for delta in self._stream(request):
                yield delta
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _stream(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        behaviour = self.behaviour
        stream = RequestStream(self.tokenizer, self.info, behaviour, request)
        clock = asyncio.get_running_loop().time
        sent = fresh = 0
        held = 0.0  # until then whoever reads this is behind
        group: list[int] = []
        for token, finish in stream.tokens():
            if behaviour.fail_after_tokens == sent + len(group):
                raise EngineError("the engine failed this request")
            if behaviour.die_after_tokens == sent + len(group):
                self.die()
            group.append(token)
            fresh += 1
            if finish is None and fresh < behaviour.tokens_per_delta:
                continue
            await asyncio.sleep(behaviour.token_interval_seconds * fresh)
            await self.check_health()
            fresh = 0
            if held and finish is None and clock() < held:
                continue
            logprobs, cached = stream.logprobs(group, sent), stream.cached_tokens
            delta = GenerationDelta(tuple(group), logprobs, finish, cached_tokens=cached)
            if not (sent and request.taken(delta)):
                yield delta
            sent += len(group)
            group = []
            held = clock() + hold if (hold := request.hold) else 0.0


def scripted_card(tokenizer: ScriptedTokenizer | None = None) -> BudgetCard:
    """A calibrated card that is true of the scripted engine; accuracies are made up.

    Everything measured carries ``dataset: "scripted"``, so it cannot be taken for a result.
    """
    tokenizer = tokenizer or ScriptedTokenizer()
    added = tokenizer.get_added_vocab()
    low, high = NATURAL_TOKENS
    tokens = {"mean": (low + high) / 2, "p50": (low + high) / 2, "p90": high - (high - low) / 10}
    answer = {"mean": _ANSWER_TOKENS, "p50": _ANSWER_TOKENS, "p90": _ANSWER_TOKENS + 1}
    bins = [
        {"max_prompt_tokens": limit, "n": 1000, "reasoning": tokens, "answer": answer}
        for limit in (64, 256, None)
    ]
    levels = [
        _level(ratio, added[level_token(ratio)], index)
        for index, ratio in enumerate(DEFAULT_RATIOS)
    ]
    policy = {"name": "auto", "token": POLICY_TOKEN, "token_id": added[POLICY_TOKEN], "ratio": None}
    return BudgetCard.model_validate(
        {
            "version": 1,
            "prompt_format": 1,
            "tokenizer_hash": tokenizer_hash(tokenizer),
            "base_model": "scripted",
            "system_prompt": None,
            "instruction": (
                "Please reason step by step, and put your final answer within \\boxed{}."
            ),
            "think_start": THINK_START,
            "think_end": THINK_END,
            "sampling": {"temperature": 1.0},
            "levels": levels,
            "policy": {**policy, "dataset": "scripted"},
            "baseline": {"native": bins, "full": bins},
            "provenance": {"stages": ["scripted"]},
        }
    )


def _level(ratio: float, token_id: int, index: int) -> Mapping[str, Any]:
    realised, accuracy = REALISED_RATIOS[ratio], 0.5 + 0.1 * index
    return {
        "name": str(ratio),
        "token": level_token(ratio),
        "token_id": token_id,
        "ratio": ratio,
        "realised": {"mean": realised, "p10": realised - 0.02, "p90": realised + 0.02},
        "accuracy": {"mean": accuracy, "low": accuracy - 0.02, "high": accuracy + 0.02},
        "unclosed_rate": 0.0,
        "n": 1000,
        "dataset": "scripted",
    }
