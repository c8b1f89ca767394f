"""The vLLM engine, for real: the bundled model on whatever device there is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from extracot_server.engine.base import (
    SCHEMA_FIELD,
    AnswerFormat,
    Engine,
    EngineDeadError,
    EngineRequestError,
    EngineStartError,
    GenerationRequest,
    SamplingParams,
)
from extracot_server.engine.vllm.engine import VllmEngine
from extracot_server.model_registry.resolving import resolve_model
from tests.server.engine.running import engine_process, run
from tests.server.live import Live, user

# vLLM and its libraries warn about their own code.
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.vllm,
    pytest.mark.filterwarnings("default"),
    pytest.mark.on_loop_of("cap_vllm"),
]

GREEDY = SamplingParams(temperature=0.0)
ENDLESS = SamplingParams(temperature=0.7, ignore_eos=True)
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def engine(cap_vllm: Live) -> VllmEngine:
    """The one behind the server that tests share."""
    found: VllmEngine = cap_vllm.engine
    return found


def ask(engine: Engine, name: str = "r", **changes: Any) -> GenerationRequest:
    turn = [{"role": "user", "content": "What is 3 + 4?"}]
    ids = engine.tokenizer.encode(
        engine.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True),
        add_special_tokens=False,
    )
    request = GenerationRequest(name, tuple(ids), max_tokens=16, sampling=GREEDY)
    return replace(request, **changes)


async def becomes_idle(engine: Engine) -> bool:
    """Whether the engine holds nothing any more within a minute."""
    async with asyncio.timeout(60):
        while await engine.in_flight():
            await asyncio.sleep(0.01)
    return True


async def test_what_start_up_tells(engine: VllmEngine) -> None:
    assert isinstance(engine, Engine)
    info = engine.info
    assert (info.kind, info.max_model_len, info.vocab_size) == ("vllm", 8192, 49152)
    assert info.eos_token_ids == {engine.tokenizer.eos_token_id}
    await engine.check_health()
    assert await engine.in_flight() == 0


async def test_a_reply_ends_with_its_end_token(engine: VllmEngine) -> None:
    done = await run(engine, ask(engine, max_tokens=200))
    assert done.finish == "stop"
    assert done.ids[-1] in engine.info.eos_token_ids
    assert "7" in engine.tokenizer.decode(list(done.ids))


@pytest.mark.parametrize("limit", [1, 2, 33])
async def test_max_tokens_is_exact(engine: VllmEngine, limit: int) -> None:
    done = await run(engine, ask(engine, max_tokens=limit, sampling=ENDLESS))
    assert (len(done.ids), done.finish) == (limit, "length")


async def test_a_stop_id_ends_the_stream_and_is_in_it(engine: VllmEngine) -> None:
    free = (await run(engine, ask(engine))).ids
    stop = free[5]
    done = await run(engine, ask(engine, stop_token_ids=(stop,)))
    assert done.ids == free[: free.index(stop) + 1]
    assert done.finish == "stop"


async def test_a_reply_can_be_continued(engine: VllmEngine) -> None:
    request = ask(engine, max_tokens=24)
    whole = (await run(engine, request)).ids
    half = len(whole) // 2  # how long it is depends on how the processor rounds
    assert half > 3
    head = (await run(engine, replace(request, max_tokens=half))).ids
    assert head == whole[:half]
    rest = replace(request, token_ids=request.token_ids + head, max_tokens=24 - half)
    # A prompt is computed in one piece and a reply token by token: in bfloat16 they round apart,
    # and some tokens on another word is as likely.
    assert (await run(engine, rest)).ids[:3] == whole[half : half + 3]


async def test_a_prompt_that_comes_again_is_in_the_cache_but_for_its_end(cap_vllm: Live) -> None:
    story = " ".join(f"Shelf {n} holds {n * n} books." for n in range(60))
    asked: dict[str, Any] = {"messages": user(story), "max_tokens": 8, "temperature": 0}
    usage = [(await asyncio.to_thread(cap_vllm.chat, **asked))["usage"] for _ in range(2)]
    first, second = (told["prompt_tokens_details"]["cached_tokens"] for told in usage)
    assert 0 <= first < usage[0]["prompt_tokens"] / 2 < second < usage[1]["prompt_tokens"]
    streamed = {**asked, "stream_options": {"include_usage": True}}
    chunks = await asyncio.to_thread(cap_vllm.chunks, **streamed)
    assert chunks[-1]["usage"] == usage[1]


async def test_seeds_repeat(engine: VllmEngine) -> None:
    def seeded(seed: int) -> GenerationRequest:
        sampling = SamplingParams(temperature=1.5, seed=seed, ignore_eos=True)
        return ask(engine, f"seed-{seed}", sampling=sampling, max_tokens=24)

    one, same, other = [(await run(engine, seeded(seed))).ids for seed in (1, 1, 2)]
    assert one == same != other


async def test_only_allowed_ids_with_their_log_probabilities(engine: VllmEngine) -> None:
    allowed = (20, 500, 30000)
    request = ask(engine, max_tokens=3, allowed_token_ids=allowed, sampling=SamplingParams(seed=1))
    done = await run(engine, request)
    assert set(done.ids) <= set(allowed)
    assert len(done.logprobs) == 3
    for token, entry in zip(done.ids, done.logprobs, strict=True):
        chances = dict(entry.top)
        assert set(chances) == set(allowed)
        assert chances[token] == entry.logprob
        assert sum(map(math.exp, chances.values())) <= 1.0


async def test_log_probabilities_are_aligned(engine: VllmEngine) -> None:
    sampling = replace(GREEDY, logprobs=3)
    done = await run(engine, ask(engine, max_tokens=6, sampling=sampling))
    assert [entry.token_id for entry in done.logprobs] == list(done.ids)
    for entry in done.logprobs:
        assert entry.top[0] == (entry.token_id, entry.logprob)
        assert [value for _, value in entry.top] == sorted((v for _, v in entry.top), reverse=True)
        assert len(entry.top) == 3


@pytest.mark.parametrize(
    "wanted", [AnswerFormat("json_schema", SCHEMA), AnswerFormat("json_object")]
)
async def test_answer_formats_bind_from_the_first_token(
    engine: VllmEngine, wanted: AnswerFormat
) -> None:
    request = ask(engine, answer_format=wanted, max_tokens=200)
    done = await run(engine, request)
    text = engine.tokenizer.decode(list(done.ids), skip_special_tokens=True)
    assert text.startswith("{")
    if wanted.schema is not None:
        assert set(json.loads(text)) == {"answer"}
        assert done.finish == "stop"


async def test_a_format_is_judged_before_anything_runs(engine: VllmEngine) -> None:
    await engine.check_format(AnswerFormat("json_object"))
    await engine.check_format(AnswerFormat("json_schema", SCHEMA))
    deep: dict[str, Any] = {}
    for _ in range(600):
        deep = {"type": "array", "items": deep}
    for wrong in ({"type": "nope"}, {"$ref": "#/nowhere"}, deep):
        with pytest.raises(EngineRequestError) as refused:
            await engine.check_format(AnswerFormat("json_schema", wrong))
        assert refused.value.param == SCHEMA_FIELD and "\n" not in str(refused.value)
        assert ".cc:" not in str(refused.value), "no place in a library's source"
    await engine.check_health()
    assert await engine.in_flight() == 0


async def test_min_tokens_and_bias(engine: VllmEngine) -> None:
    end = next(iter(engine.info.eos_token_ids))
    always = replace(GREEDY, logit_bias={end: 100.0})
    assert (await run(engine, ask(engine, sampling=always))).ids == (end,)
    later = await run(engine, ask(engine, sampling=replace(always, min_tokens=5)))
    assert later.ids.index(end) == 5


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"sampling": SamplingParams(temperature=2.5)}, "temperature"),
        ({"sampling": SamplingParams(top_p=0.0)}, "top_p"),
        ({"sampling": SamplingParams(logprobs=21)}, "top_logprobs"),
        ({"sampling": SamplingParams(min_tokens=17)}, "min_tokens"),
        ({"sampling": SamplingParams(seed=2**64)}, "seed"),
        ({"sampling": SamplingParams(logit_bias={10**6: 1.0})}, "logit_bias"),
        ({"sampling": SamplingParams(presence_penalty=9.0)}, "presence_penalty"),
        ({"answer_format": AnswerFormat("json_schema", {"type": "nope"})}, "response_format"),
        ({"token_ids": (5,) * 9000}, "messages"),
        ({"token_ids": (10**6,)}, None),
        ({"token_ids": ()}, None),
    ],
)
async def test_refusals_name_the_field_and_leave_the_engine_well(
    engine: VllmEngine, change: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(EngineRequestError) as refused:
        await run(engine, ask(engine, **change))
    assert refused.value.param == param
    assert "\n" not in str(refused.value)
    await engine.check_health()
    assert await becomes_idle(engine)


async def test_closing_and_cancelling_abort_in_the_engine(engine: VllmEngine) -> None:
    endless = ask(engine, max_tokens=4000, sampling=ENDLESS)
    stream = engine.generate(replace(endless, request_id="closed"))
    await anext(stream)
    reader = asyncio.ensure_future(run(engine, replace(endless, request_id="cancelled")))
    async with asyncio.timeout(60):
        while await engine.in_flight() < 2:
            await asyncio.sleep(0.01)
    await stream.aclose()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await becomes_idle(engine)


async def test_a_cancel_at_submission_leaks_nothing(engine: VllmEngine) -> None:
    for number in range(10):
        request = ask(engine, f"early-{number}", max_tokens=4000, sampling=ENDLESS)
        reader = asyncio.ensure_future(run(engine, request))
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
    assert await becomes_idle(engine)


async def test_requests_run_side_by_side(engine: VllmEngine) -> None:
    requests = [
        ask(engine, f"many-{number}", max_tokens=8 + number, sampling=ENDLESS)
        for number in range(6)
    ]
    done = await asyncio.gather(*(run(engine, request) for request in requests))
    assert [len(one.ids) for one in done] == [request.max_tokens for request in requests]


async def test_a_stalled_engine_is_noticed_and_forgiven(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = engine_process(engine)
    os.kill(process, signal.SIGSTOP)
    try:
        monkeypatch.setattr(engine._pulse, "_stall_seconds", 0.5)
        async with asyncio.timeout(60):
            with pytest.raises(EngineDeadError, match="has not answered"):
                while True:
                    await engine.check_health()
    finally:
        os.kill(process, signal.SIGCONT)
    monkeypatch.undo()
    async with asyncio.timeout(60):
        while True:  # the server's own watch asks as well, and may still wait for an old answer
            with contextlib.suppress(EngineDeadError):
                await engine.check_health()
                break
    assert len((await run(engine, ask(engine, max_tokens=2))).ids) == 2


async def test_what_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    """Failures before a process is started: they cost no more than the import."""
    good = Path(resolve_model("smollm2"))
    config = json.loads((good / "config.json").read_text())
    changed = tmp_path / "changed"
    changed.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(good / name, changed)
    (changed / "model.safetensors").touch()
    (changed / "config.json").write_text(json.dumps({**config, "architectures": ["Nobody"]}))
    for model, arguments, message in (
        (str(changed), {}, "not supported by this vLLM"),
        ("nobody/nothing", {}, "neither a local folder nor a model the hub could give"),
        (str(good), {"dtype": "float7"}, "dtype: Input should be"),
        (str(good), {"max_model_len": "99999"}, "greater than the derived max_model_len"),
        (str(good), {"block_sise": 32}, "did you mean block_size"),
        (str(good), {"tensor_parallel_size": 7}, "divisible by tensor parallel size"),
    ):
        engine = VllmEngine(model, engine_args=arguments, shutdown_grace=1.0)
        with pytest.raises(EngineStartError, match=message) as failed:
            await engine.start()
        assert "\n" not in str(failed.value)
        with pytest.raises(EngineDeadError, match="not been started"):
            await engine.check_health()
