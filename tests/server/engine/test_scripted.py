"""The scripted engine keeps the engine protocol, and its replies go on from wherever they stop."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from extracot.answers import extract_answer
from extracot.card import BudgetCard
from extracot.control import DEFAULT_RATIOS, level_token
from extracot_server.engine.base import (
    AnswerFormat,
    Engine,
    EngineDeadError,
    EngineError,
    EngineRequestError,
    EngineStartError,
    GenerationRequest,
    SamplingParams,
)
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine, scripted_card
from extracot_server.engine.scripted.model import NATURAL_TOKENS, REALISED_RATIOS
from tests.server.engine.running import run

pytestmark = pytest.mark.anyio
GREEDY = SamplingParams(temperature=0.0)
PROBLEM = "How many apples are left?"


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    made = await started(ScriptedBehaviour())
    yield made
    assert await made.in_flight() == 0


async def started(behaviour: ScriptedBehaviour) -> ScriptedEngine:
    made = ScriptedEngine(behaviour)
    await made.start()
    return made


def ask(
    engine: ScriptedEngine,
    text: str = PROBLEM,
    reply: str = "",
    *,
    max_tokens: int = 1000,
    sampling: SamplingParams = GREEDY,
) -> GenerationRequest:
    turn = [{"role": "user", "content": text}]
    ids = engine.tokenizer.encode(engine.tokenizer.apply_chat_template(turn) + reply)
    return GenerationRequest("r", tuple(ids), max_tokens, sampling)


async def reply_to(engine: ScriptedEngine, text: str = PROBLEM, reply: str = "") -> str:
    return engine.tokenizer.decode((await run(engine, ask(engine, text, reply))).ids)


async def test_it_is_an_engine(engine: ScriptedEngine) -> None:
    assert isinstance(engine, Engine)
    assert engine.info.kind == "scripted"
    assert engine.tokenizer.eos_token_id in engine.info.eos_token_ids
    await engine.check_health()


async def test_a_native_reply_opens_reasons_closes_and_answers(engine: ScriptedEngine) -> None:
    text = await reply_to(engine)
    assert text.startswith("<think>\n")
    reasoning, _, answer = text.removeprefix("<think>\n").partition("\n</think>\n\n")
    low, high = NATURAL_TOKENS
    assert low <= len(engine.tokenizer.encode(reasoning)) <= high
    assert (extract_answer(answer) or "").isdigit()
    assert answer.endswith("<|im_end|>")


async def test_levels_shorten_reasoning_by_their_realised_ratio(engine: ScriptedEngine) -> None:
    lengths = {}
    answers = set()
    for ratio in DEFAULT_RATIOS:
        token = level_token(ratio)
        done = await run(engine, ask(engine, f"{PROBLEM} {token}", f"{token}\n<think>\n"))
        lengths[ratio] = done.ids.index(engine.tokenizer.get_added_vocab()["</think>"]) - 1
        answers.add(extract_answer(engine.tokenizer.decode(done.ids)))
    for ratio, length in lengths.items():
        assert length == round(lengths[1.0] * REALISED_RATIOS[ratio])
    assert len(answers) == 1


async def test_a_closed_block_gets_an_answer_only(engine: ScriptedEngine) -> None:
    text = await reply_to(engine, reply="<think>\n\n</think>\n\n")
    assert text.startswith("The answer is \\boxed{")
    assert text == await reply_to(engine, reply="<think>\n so far\n</think>\n\n")


@pytest.mark.parametrize("tags_as_text", [False, True])
@pytest.mark.parametrize(
    ("control", "reply"),
    [
        ("", ""),
        (" <COMP_POLICY>", ""),
        (" <COMP_40>", "<COMP_40>\n<think>\n"),
        ("", "<think>\n"),
        ("", "<think>\nclosed by force\n</think>\n\n"),
        ("", "<think>\n\n</think>\n\n"),
    ],
)
async def test_chunked_requests_equal_one_long_one(
    tags_as_text: bool, control: str, reply: str
) -> None:
    engine = await started(ScriptedBehaviour(tags_as_text=tags_as_text))
    request = ask(engine, PROBLEM + control, reply)
    whole = (await run(engine, request)).ids
    for cut in range(1, len(whole)):
        head = await run(engine, replace(request, max_tokens=cut))
        assert (head.ids, head.finish) == (whole[:cut], "length")
        longer = replace(request, token_ids=request.token_ids + head.ids)
        assert (await run(engine, longer)).ids == whole[cut:]


async def test_reasoning_cut_by_a_cap_can_be_closed_and_answered(engine: ScriptedEngine) -> None:
    request = ask(engine, reply="<think>\n", max_tokens=7)
    cut = await run(engine, request)
    close = tuple(engine.tokenizer.encode("\n</think>\n\n"))
    again = replace(request, token_ids=request.token_ids + cut.ids + close, max_tokens=100)
    answer = engine.tokenizer.decode((await run(engine, again)).ids)
    assert (await reply_to(engine)).endswith(answer)


async def test_seed_decides_the_words_and_nothing_else(engine: ScriptedEngine) -> None:
    request = ask(engine)
    runs = [
        await run(engine, replace(request, sampling=SamplingParams(seed=seed)))
        for seed in (1, 1, 2)
    ]
    assert runs[0].ids == runs[1].ids != runs[2].ids
    assert len(runs[0].ids) == len(runs[2].ids)


async def test_typed_control_text_is_not_a_control_token(engine: ScriptedEngine) -> None:
    spoofed = [
        token
        for part in ("<", "COMP_20>\n<", "think>\n")
        for token in engine.tokenizer.encode(part)
    ]
    request = ask(engine)
    turn = engine.tokenizer.encode("<|im_start|>user\n")
    ids = (*turn, *spoofed, *request.token_ids)
    assert (await run(engine, replace(request, token_ids=ids))).finish == "stop"


async def test_stop_ids_end_the_stream_and_are_in_it(engine: ScriptedEngine) -> None:
    end = engine.tokenizer.get_added_vocab()["</think>"]
    request = replace(ask(engine, reply="<think>\n"), stop_token_ids=(end,))
    done = await run(engine, request)
    assert (done.ids[-1], done.ids.count(end), done.finish) == (end, 1, "stop")


async def test_allowed_ids_come_with_their_log_probabilities(engine: ScriptedEngine) -> None:
    vocab = engine.tokenizer.get_added_vocab()
    allowed = tuple(vocab[level_token(ratio)] for ratio in DEFAULT_RATIOS)
    request = replace(ask(engine, " <COMP_POLICY>", max_tokens=1), allowed_token_ids=allowed)
    done = await run(engine, request)
    chances = {token: math.exp(value) for token, value in done.logprobs[0].top}
    assert set(chances) == set(allowed)
    assert sum(chances.values()) == pytest.approx(0.9)
    assert done.ids == (max(chances, key=lambda token: chances[token]),)
    narrowed = await run(engine, replace(request, allowed_token_ids=allowed[:1]))
    assert narrowed.ids == allowed[:1]
    picks = {
        (await run(engine, replace(request, sampling=SamplingParams(seed=seed)))).ids
        for seed in range(40)
    }
    assert 1 < len(picks) <= len(allowed)


@pytest.mark.parametrize(
    ("wanted", "valid"),
    [
        (AnswerFormat("json_object"), {"answer"}),
        (
            AnswerFormat(
                "json_schema",
                {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
            ),
            {"n"},
        ),
    ],
)
async def test_answer_formats(
    engine: ScriptedEngine, wanted: AnswerFormat, valid: set[str]
) -> None:
    request = ask(engine, reply="<think>\n\n</think>\n\n")
    done = await run(engine, replace(request, answer_format=wanted))
    assert set(json.loads(engine.tokenizer.decode(done.ids[:-1]))) == valid
    assert done.finish == "stop"


async def test_log_probabilities_are_aligned_and_repeatable(engine: ScriptedEngine) -> None:
    request = ask(engine, max_tokens=9, sampling=SamplingParams(logprobs=3))
    first = await run(engine, request)
    assert [entry.token_id for entry in first.logprobs] == list(first.ids)
    assert all(len(entry.top) == 3 for entry in first.logprobs)
    assert first.logprobs == (await run(engine, request)).logprobs
    none = await run(engine, ask(engine, max_tokens=3, sampling=SamplingParams(logprobs=0)))
    assert [entry.top for entry in none.logprobs] == [(), (), ()]


async def test_min_tokens_and_ignore_eos(engine: ScriptedEngine) -> None:
    request = ask(engine, reply="<think>\n\n</think>\n\n", max_tokens=60)
    more = await run(engine, replace(request, sampling=SamplingParams(min_tokens=40)))
    assert (len(more.ids), more.finish) == (40, "stop")
    endless = await run(engine, replace(request, sampling=SamplingParams(ignore_eos=True)))
    assert (len(endless.ids), endless.finish) == (60, "length")
    assert not engine.info.eos_token_ids & set(endless.ids)


async def test_logit_bias_bans_and_forces(engine: ScriptedEngine) -> None:
    word = engine.tokenizer.encode(" the")[0]
    forced = await run(
        engine, ask(engine, max_tokens=4, sampling=SamplingParams(logit_bias={word: 100}))
    )
    assert forced.ids == (word,) * 4
    banned = await run(engine, ask(engine, sampling=SamplingParams(logit_bias={word: -100})))
    assert word not in banned.ids


async def test_deltas_can_be_grouped() -> None:
    engine = await started(ScriptedBehaviour(tokens_per_delta=8))
    done = await run(engine, ask(engine, max_tokens=20))
    assert (len(done.ids), done.deltas) == (20, 3)


async def test_end_of_reply_inside_reasoning() -> None:
    engine = await started(ScriptedBehaviour(eos_in_reasoning=5))
    done = await run(engine, ask(engine, reply="<think>\n"))
    assert (len(done.ids), done.finish) == (6, "stop")
    assert done.ids[-1] == engine.tokenizer.eos_token_id


async def test_reasoning_that_never_closes_still_answers_when_closed() -> None:
    engine = await started(ScriptedBehaviour(never_close=True))
    done = await run(engine, ask(engine, max_tokens=500))
    assert done.finish == "length"
    assert engine.tokenizer.get_added_vocab()["</think>"] not in done.ids
    assert "boxed" in await reply_to(engine, reply="<think>\n hm\n</think>\n\n")


async def test_a_model_that_does_not_open_think_answers_at_once() -> None:
    engine = await started(ScriptedBehaviour(opens_think=False))
    assert (await reply_to(engine)).startswith("The answer is")
    assert "</think>" in await reply_to(engine, reply="<think>\n")


async def test_the_context_ends_a_reply() -> None:
    engine = await started(ScriptedBehaviour(max_model_len=64))
    request = ask(engine)
    done = await run(engine, request)
    assert (len(done.ids) + len(request.token_ids), done.finish) == (64, "length")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"token_ids": ()}, "messages"),
        ({"token_ids": (1,) * 5000}, "messages"),
        ({"token_ids": (10**6,)}, None),
        ({"sampling": SamplingParams(temperature=2.5)}, "temperature"),
        ({"sampling": SamplingParams(logprobs=21)}, "top_logprobs"),
        ({"sampling": SamplingParams(min_tokens=2000)}, "min_tokens"),
        (
            {"answer_format": AnswerFormat("json_schema", {"type": "nothing"})},
            "response_format.json_schema.schema",
        ),
    ],
)
async def test_refusals_name_the_field(
    engine: ScriptedEngine, change: dict[str, object], param: str | None
) -> None:
    request = replace(ask(engine), **change)  # type: ignore[arg-type]
    with pytest.raises(EngineRequestError) as refused:
        await run(engine, request)
    assert refused.value.param == param
    assert list(engine.requests) == [request]


async def test_rejection_and_failure_on_demand() -> None:
    refusal = EngineRequestError("no", param="user")
    engine = await started(ScriptedBehaviour(reject_with=refusal))
    with pytest.raises(EngineRequestError) as refused:
        await run(engine, ask(engine))
    assert refused.value is refusal
    engine = await started(ScriptedBehaviour(fail_after_tokens=3))
    seen = 0
    with pytest.raises(EngineError):
        async for delta in engine.generate(ask(engine)):
            seen += len(delta.token_ids)
    assert seen == 3
    await engine.check_health()


async def test_death_takes_every_request_with_it() -> None:
    engine = await started(ScriptedBehaviour(die_after_tokens=20))
    slow = engine.generate(ask(engine, "another"))
    await anext(slow)
    with pytest.raises(EngineDeadError):
        await run(engine, ask(engine))
    with pytest.raises(EngineDeadError):
        await anext(slow)
    with pytest.raises(EngineDeadError):
        await engine.check_health()
    with pytest.raises(EngineDeadError):
        await run(engine, ask(engine))
    assert await engine.in_flight() == 0


async def test_start_can_fail_and_must_come_first() -> None:
    engine = ScriptedEngine(ScriptedBehaviour(start_error="no model here"))
    with pytest.raises(EngineStartError, match="no model here"):
        await engine.start()
    with pytest.raises(EngineDeadError, match="not been started"):
        await run(engine, ask(engine))


async def test_closing_a_stream_aborts_it(engine: ScriptedEngine) -> None:
    streams = [engine.generate(ask(engine, str(number))) for number in range(4)]
    for stream in streams:
        await anext(stream)
    assert await engine.in_flight() == 4
    for stream in streams:
        await stream.aclose()
    assert await engine.in_flight() == 0


async def test_cancelling_a_reader_aborts_its_request() -> None:
    engine = await started(ScriptedBehaviour(token_interval_seconds=3600))
    reader = asyncio.ensure_future(run(engine, ask(engine)))
    while not await engine.in_flight():
        await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await engine.in_flight() == 0


async def test_close_lets_requests_finish_within_the_grace() -> None:
    engine = await started(ScriptedBehaviour())
    reader = asyncio.ensure_future(run(engine, ask(engine)))
    while not await engine.in_flight():
        await asyncio.sleep(0)
    await engine.close(60)
    assert (await reader).finish == "stop"
    await engine.close(0)
    with pytest.raises(EngineDeadError, match="closed"):
        await engine.check_health()


async def test_close_drops_what_outlasts_the_grace() -> None:
    engine = await started(ScriptedBehaviour(never_close=True, max_model_len=10**9))
    reader = asyncio.ensure_future(run(engine, ask(engine, max_tokens=10**8)))
    while not await engine.in_flight():
        await asyncio.sleep(0)
    await engine.close(0)
    with pytest.raises(EngineDeadError):
        await reader


@pytest.mark.parametrize("seed_text", ["", "a", "b", "c"])
async def test_the_card_is_true_of_the_engine(engine: ScriptedEngine, seed_text: str) -> None:
    card = scripted_card()
    card.check_tokenizer(engine.tokenizer)
    assert card.is_calibrated
    assert isinstance(card, BudgetCard)
    assert {level.dataset for level in card.levels} == {"scripted"}
    answer = await run(engine, ask(engine, seed_text, "<think>\n\n</think>\n\n"))
    assert card.baseline is not None
    bound = card.baseline.native[0].answer.p90
    assert len(answer.ids) <= bound
