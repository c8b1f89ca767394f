"""What the vLLM engine is made of and can be tested without vLLM."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from extracot.processor import computes_bfloat16
from extracot_server.engine.base import (
    AnswerFormat,
    EngineBusyError,
    EngineDeadError,
    EngineError,
    EngineRequestError,
    EngineStartError,
    GenerationRequest,
    SamplingParams,
    TokenLogprob,
)
from extracot_server.engine.vllm import grammars
from extracot_server.engine.vllm.arguments import check_folder, engine_arguments
from extracot_server.engine.vllm.precision import precision_on_cpu
from extracot_server.engine.vllm.requests import delta, refusal, sampling_values
from extracot_server.engine.vllm.start_errors import explain_start

KNOWN = {
    "load_format",
    "dtype",
    "tensor_parallel_size",
    "kv_cache_memory_bytes",
    "enable_chunked_prefill",
    "structured_outputs_config",
}


def arguments(given: dict[str, Any], *, cpu: bool = False) -> dict[str, Any]:
    known = {*KNOWN, "gpu_memory_utilization", "model"}
    return engine_arguments("m", given, known=known, cpu=cpu, shutdown_grace=2.5)


def test_importing_the_engine_does_not_import_vllm() -> None:
    code = (
        "import sys, extracot_server.engine.vllm.engine\n"
        "assert not {'vllm', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_text_arguments_are_typed_and_beat_ours() -> None:
    values = arguments({"tensor-parallel-size": "2", "dtype": "bfloat16"}, cpu=True)
    assert values["tensor_parallel_size"] == 2
    assert values["dtype"] == "bfloat16"
    assert values["shutdown_timeout"] == 3


def test_what_adapters_need_is_a_default_too() -> None:
    needed = {"max_loras": 3, "enable_lora": True}
    given = {"max-loras": "1"}
    known = {*KNOWN, *needed}
    values = engine_arguments("m", given, known=known, cpu=False, shutdown_grace=1, defaults=needed)
    assert (values["max_loras"], values["enable_lora"]) == (1, True)


def test_defaults_depend_on_the_device() -> None:
    cpu, gpu = arguments({}, cpu=True), arguments({})
    dtype = "bfloat16" if computes_bfloat16() else "float32"
    assert (cpu["dtype"], cpu["enforce_eager"], cpu["block_size"]) == (dtype, True, 32)
    assert cpu["kv_cache_memory_bytes"] == 2**30
    assert cpu["enable_chunked_prefill"] is False
    assert {"dtype", "enforce_eager", "block_size", "kv_cache_memory_bytes"}.isdisjoint(gpu)
    assert "enable_chunked_prefill" not in gpu
    share = arguments({"gpu_memory_utilization": "0.5"}, cpu=True)
    assert "kv_cache_memory_bytes" not in share


def test_bfloat16_is_for_processors_that_have_it_and_models_that_gain(tmp_path: Path) -> None:
    for name, size in (("tiny", 10), ("large", 2**26)):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "model.safetensors").open("wb") as file:
            file.truncate(size)
    found = {
        (name, has): precision_on_cpu(tmp_path / name, bfloat16=has)
        for name in ("tiny", "large", "some-hub/id")
        for has in (True, False)
    }
    assert {pair for pair, dtype in found.items() if dtype == "bfloat16"} == {
        ("large", True),
        ("some-hub/id", True),
    }


def test_grammar_settings_are_merged() -> None:
    values = arguments({"structured_outputs_config": '{"backend": "xgrammar"}'})
    assert values["structured_outputs_config"] == {
        "backend": "xgrammar",
        "disable_any_whitespace": True,
    }
    # vLLM does not start with the second where the backend is another one.
    values = arguments({"structured_outputs_config": '{"backend": "outlines"}'})
    assert values["structured_outputs_config"] == {"backend": "outlines"}


@pytest.mark.parametrize(
    ("setting", "backend"),
    [("auto", "guidance"), ("guidance", "guidance"), ("xgrammar", "xgrammar")],
)
def test_the_grammar_backend_is_a_setting(setting: str, backend: str) -> None:
    values = engine_arguments(
        "m", {}, known=KNOWN, cpu=False, shutdown_grace=1, grammar_backend=setting
    )
    assert values["structured_outputs_config"]["backend"] == backend
    assert values["structured_outputs_config"]["disable_any_whitespace"] is True


def test_a_grammar_that_fails_late_is_not_asked_for_again() -> None:
    output = SimpleNamespace(finish_reason="error", token_ids=[], logprobs=None)
    plain = GenerationRequest("r", (1,), max_tokens=1)
    with pytest.raises(EngineError) as caught:
        delta(output, plain)
    assert not isinstance(caught.value, EngineRequestError)
    wanted = AnswerFormat("json_schema", {}, "text.format.schema")
    with pytest.raises(EngineRequestError, match=r"`text\.format\.schema`") as refused:
        delta(output, replace(plain, answer_format=wanted))
    assert refused.value.param == "text.format.schema"


@pytest.mark.anyio
async def test_what_takes_too_long_to_compile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammars, "_SECONDS", 0.0)
    ends = threading.Event()
    compiler = grammars.Compiler(lambda schema: "late" if ends.wait(30) else None)
    try:
        assert "too long" in str(await compiler.refusal({}))
    finally:
        ends.set()


@pytest.mark.anyio
async def test_a_schema_that_gets_no_turn_is_to_be_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grammars, "_SECONDS", 0.0)
    ends = threading.Event()
    compiler = grammars.Compiler(lambda schema: "late" if ends.wait(30) else None)
    try:
        for _ in range(2):
            assert "too long" in str(await compiler.refusal({}))
        monkeypatch.setattr(grammars, "_TURN_SECONDS", 0.0)
        with pytest.raises(EngineBusyError):
            await compiler.refusal({})
    finally:
        ends.set()


def test_what_guidance_would_answer_with_nothing() -> None:
    assert grammars.complaint({"$ref": "#"}) and grammars.complaint({"allOf": [{"$ref": "#"}]})
    assert grammars.complaint({"type": "object", "properties": {"a": {"$ref": "#"}}}) is None
    many = {f"p{number}": {"type": "string"} for number in range(900)}  # it stops after the first {
    assert "max is" in str(grammars.complaint({"type": "object", "properties": many}))
    assert grammars.complaint({"type": "object", "properties": many, "required": [*many]}) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensor_paralel_size", "did you mean tensor_parallel_size"),
        ("zzz", "unknown vLLM argument zzz$"),
        ("model", "setting of its own"),
    ],
)
def test_wrong_argument_names(name: str, message: str) -> None:
    with pytest.raises(EngineStartError, match=message):
        arguments({name: "1"})


def test_folders_without_a_model_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(EngineStartError, match="holds no config"):
        check_folder(tmp_path)
    with pytest.raises(EngineStartError, match="does not exist"):
        check_folder(tmp_path / "nothing")
    (tmp_path / "config.json").touch()
    (tmp_path / "model.safetensors").touch()
    check_folder(tmp_path)
    check_folder(Path("someone/model"))


def test_pickles_are_loaded_for_who_asks_for_them_only(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(EngineStartError, match=r"holds no \*\.safetensors"):
        check_folder(tmp_path)
    check_folder(tmp_path, {"load-format": "pt"})
    assert arguments({})["load_format"] == "safetensors"  # of hub ids, too
    assert arguments({"load_format": "pt"})["load_format"] == "pt"
    (tmp_path / "consolidated.safetensors").touch()
    values = engine_arguments(str(tmp_path), {}, known=KNOWN, cpu=False, shutdown_grace=1.0)
    assert values["load_format"] == "auto"


def request(**changes: Any) -> GenerationRequest:
    return GenerationRequest("r", (1, 2), **{"max_tokens": 5, **changes})


def test_a_request_overrides_the_models_defaults() -> None:
    defaults = {"temperature": 0.6, "top_k": 20, "max_tokens": 2048}
    plain = sampling_values(request(), defaults)
    assert (plain["temperature"], plain["top_k"], plain["max_tokens"]) == (0.6, 20, 5)
    assert "top_p" not in plain
    sampling = SamplingParams(temperature=0.0, top_k=0, seed=3, logit_bias={7: 1.0}, min_tokens=2)
    own = sampling_values(request(sampling=sampling, stop_token_ids=(9,)), defaults)
    assert (own["temperature"], own["top_k"], own["seed"]) == (0.0, 0, 3)
    assert (own["logit_bias"], own["min_tokens"]) == ({7: 1.0}, 2)
    assert own["stop_token_ids"] == [9]
    assert own["detokenize"] is False


def test_allowed_ids_ask_for_their_log_probabilities() -> None:
    values = sampling_values(request(allowed_token_ids=(4, 5)), {})
    assert values["allowed_token_ids"] == values["logprob_token_ids"] == [4, 5]
    assert values["logprobs"] == 2


def test_seeds_beyond_64_bits_are_refused_before_vllm_chokes_on_them() -> None:
    with pytest.raises(EngineRequestError) as refused:
        sampling_values(request(sampling=SamplingParams(seed=2**63)), {})
    assert refused.value.param == "seed"


@pytest.mark.parametrize("count", [-1, 21])
def test_log_probabilities_are_limited_although_vllm_allows_more(count: int) -> None:
    with pytest.raises(EngineRequestError) as refused:
        sampling_values(request(sampling=SamplingParams(logprobs=count)), {})
    assert refused.value.param == "top_logprobs"


class Complaint(ValueError):
    def __init__(self, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


@pytest.mark.parametrize(
    ("error", "param"),
    [
        (Complaint("temperature must be in [0, 2]", "temperature"), "temperature"),
        (Complaint("Requested sample logprobs of 50", "logprobs"), "top_logprobs"),
        (Complaint("min_tokens must be less than\n max_tokens"), "min_tokens"),
        (Complaint("Failed to transform json schema into a grammar"), "response_format"),
        (Complaint("The decoder prompt (length 9) is longer"), "messages"),
        (Complaint("something else"), None),
    ],
)
def test_refusals_name_the_openai_field(error: Exception, param: str | None) -> None:
    refused = refusal(error)
    assert refused.param == param
    assert "\n" not in str(refused)


def output(**changes: Any) -> Any:
    entry = {"token_ids": [7], "finish_reason": None, "logprobs": None, **changes}
    return SimpleNamespace(**entry)


def row(**values: float) -> dict[int, Any]:
    return {int(name[1:]): SimpleNamespace(logprob=value) for name, value in values.items()}


def test_log_probabilities_are_ranked_and_cut() -> None:
    logprobs = [row(t7=-3.0, t1=-0.1, t2=-0.5)]
    two = delta(output(logprobs=logprobs), request(sampling=SamplingParams(logprobs=2)))
    assert two.logprobs == (TokenLogprob(7, -3.0, ((1, -0.1), (2, -0.5))),)
    zero = delta(output(logprobs=logprobs), request(sampling=SamplingParams(logprobs=0)))
    assert zero.logprobs == (TokenLogprob(7, -3.0, ()),)
    allowed = delta(output(logprobs=logprobs), request(allowed_token_ids=(7, 2)))
    assert allowed.logprobs == (TokenLogprob(7, -3.0, ((2, -0.5), (7, -3.0))),)


def test_finish_reasons() -> None:
    assert delta(output(finish_reason="length"), request()).finish_reason == "length"
    with pytest.raises(EngineDeadError):
        delta(output(finish_reason="abort"), request())
    with pytest.raises(EngineError, match="error"):
        delta(output(finish_reason="error"), request())


KV_CACHE = (
    "To serve at least one request with the model's max seq len (8192), (0.35 GiB KV cache is "
    "needed, which is larger than the available KV cache memory (0.1 GiB). Based on the available "
    "memory, the estimated maximum model length is 2304. Try increasing things."
)
CHILD_FAILED = RuntimeError(
    "Engine core initialization failed. See root cause above. Failed core proc(s): {}"
)


@pytest.mark.parametrize(
    ("error", "printed", "expected"),
    [
        (
            CHILD_FAILED,
            [
                "(Worker pid=1) ERROR 01-01 [x.py:9] Traceback (most recent call last):",
                f"(Worker pid=1) ERROR 01-01 [x.py:9] ValueError: {KV_CACHE}",
                "Exception: WorkerProc initialization failed due to an exception",
            ],
            "one full request needs 0.35 GiB of KV cache, there are 0.1; "
            "max_model_len=2304 would fit",
        ),
        (
            CHILD_FAILED,
            ['ERROR   File "/x/y.py", line 3, in weight_loader', "ERROR AssertionError"],
            "the weights do not have the sizes that config.json says",
        ),
        (CHILD_FAILED, [], str(CHILD_FAILED)),
        (
            CHILD_FAILED,
            ["ERROR ValueError: Cannot auto-fit max_model_len: not enough GPU memory"],
            "too little memory for the KV cache of even one token",
        ),
        (
            RuntimeError("Engine core initialization failed. Failed core proc(s): {'E_0': -9}"),
            [],
            "the engine process was killed by signal 9, which often means",
        ),
        (
            ValueError("Model architectures ['X'] are not supported for now. Supported: a, b"),
            [],
            "Model architectures ['X'] are not supported by this vLLM.",
        ),
        (
            OSError("a/b is not a local folder and is not a valid model identifier listed on\nhub"),
            [],
            "neither a local folder nor a model the hub could give",
        ),
        (KeyError("rope"), [], "KeyError: 'rope'"),
        (AssertionError(), [], "AssertionError"),
    ],
)
def test_start_errors_in_one_line(error: Exception, printed: list[str], expected: str) -> None:
    line = explain_start("m", error, printed)
    assert line.startswith("cannot serve m: ")
    assert "\n" not in line
    assert line.removeprefix("cannot serve m: ").startswith(expected)


def test_endless_start_errors_are_cut() -> None:
    assert len(explain_start("m", ValueError("word " * 500))) < 400
    sentences = " ".join(f"Sentence number {n} says little." for n in range(50))
    assert explain_start("m", ValueError(sentences)).endswith("little.")


def test_probabilities_are_natural_logarithms() -> None:
    entry = delta(
        output(logprobs=[row(t7=math.log(0.5))]), request(sampling=SamplingParams(logprobs=0))
    )
    assert entry.logprobs is not None
    assert math.exp(entry.logprobs[0].logprob) == pytest.approx(0.5)


def test_padding_among_logprobs_is_left_out() -> None:
    row = {5: SimpleNamespace(logprob=-0.5), 0: SimpleNamespace(logprob=-math.inf)}
    output = SimpleNamespace(finish_reason=None, token_ids=[5], logprobs=[row])
    request = GenerationRequest("r", (1,), 8, SamplingParams(logprobs=2))
    assert delta(output, request).logprobs == (TokenLogprob(5, -0.5, ((5, -0.5),)),)


def test_auto_may_ask_for_every_level_of_a_large_card() -> None:
    assert arguments({})["max_logprobs"] >= 50
