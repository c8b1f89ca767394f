"""The vLLM engine on a checkpoint in token mode; then what a killed engine process looks like."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from extracot.card import BudgetCard
from extracot.control import Control
from extracot.prompt import Message, PromptRenderer
from extracot_server.engine.base import (
    EngineDeadError,
    EngineStartError,
    GenerationRequest,
    SamplingParams,
)
from extracot_server.engine.vllm.engine import VllmEngine
from tests.server.engine.running import engine_process, run
from tests.server.live import Live

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.vllm,
    pytest.mark.filterwarnings("default"),
    pytest.mark.on_loop_of("token_vllm"),
]
CONTEXT = 4096


@pytest.fixture(scope="module")
def engine(token_vllm: Live) -> VllmEngine:
    """The one behind the server that tests share."""
    found: VllmEngine = token_vllm.engine
    return found


async def test_the_card_fits_the_running_tokenizer(engine: VllmEngine, tiny_model: Path) -> None:
    card = BudgetCard.load(tiny_model)
    card.check_tokenizer(engine.tokenizer)
    ids = [level.token_id for level in card.levels]
    assert max(ids) < engine.info.vocab_size == len(engine.tokenizer.get_vocab())
    assert engine.info.max_model_len == CONTEXT


async def test_both_steps_of_auto(engine: VllmEngine, tiny_model: Path) -> None:
    card = BudgetCard.load(tiny_model)
    levels = {level.token_id: level.token for level in card.levels}
    assert card.policy is not None
    renderer = PromptRenderer(
        engine.tokenizer,
        instruction=card.instruction,
        control_tokens=(*levels.values(), card.policy.token),
    )
    asked = renderer.render([Message("user", "What is 3 + 4?")], Control.policy())
    choice = await run(
        engine,
        GenerationRequest(
            "auto-1",
            asked.token_ids,
            max_tokens=1,
            sampling=SamplingParams(temperature=1.0, seed=4),
            allowed_token_ids=tuple(levels),
        ),
    )
    assert choice.ids[0] in levels
    assert {token for token, _ in choice.logprobs[0].top} == set(levels)
    chosen = renderer.after_choice(asked, levels[choice.ids[0]])
    assert chosen.in_reasoning
    assert renderer.think_end_id is not None
    reasoning = await run(
        engine,
        GenerationRequest(
            "auto-2", chosen.token_ids, max_tokens=12, stop_token_ids=(renderer.think_end_id,)
        ),
    )
    assert 1 <= len(reasoning.ids) <= 12


@pytest.mark.slow  # a start of its own
async def test_a_start_that_fails_in_the_engine_process(
    tiny_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The worst case: the cause is in a child's traceback, and only one line is shown."""
    engine = VllmEngine(
        str(tiny_model), engine_args={"kv_cache_memory_bytes": 1000}, shutdown_grace=1.0
    )
    with pytest.raises(EngineStartError, match="too little memory") as failed:
        await engine.start()
    assert "\n" not in str(failed.value)
    printed = capfd.readouterr()
    assert "Traceback" not in printed.out + printed.err


@pytest.mark.kills
async def test_a_killed_engine_process_is_noticed(engine: VllmEngine) -> None:
    request = GenerationRequest("doomed", (1, 2, 3), CONTEXT - 3, SamplingParams(ignore_eos=True))
    stream = engine.generate(request)
    await anext(stream)
    os.kill(engine_process(engine), signal.SIGKILL)
    async with asyncio.timeout(120):
        with pytest.raises(EngineDeadError):
            while True:
                await anext(stream)
        with pytest.raises(EngineDeadError):
            await engine.check_health()
        with pytest.raises(EngineDeadError):
            await run(engine, request)
        with pytest.raises(EngineDeadError):
            await engine.in_flight()
        await engine.close(0)
