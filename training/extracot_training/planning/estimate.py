"""Each stage of a plan: what it makes of what was there before, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from extracot_training.config.chrpo import ChrpoConfig
from extracot_training.config.compress import CompressConfig
from extracot_training.config.compressor import CompressorConfig
from extracot_training.config.evaluate import EvaluateConfig
from extracot_training.config.mix import MixConfig
from extracot_training.config.problems import JsonlSource, ProblemsConfig
from extracot_training.config.reference import ReferenceConfig
from extracot_training.config.sft import SftConfig
from extracot_training.config.teach import TeachConfig
from extracot_training.pipeline.distributed import world_size
from extracot_training.planning import costs
from extracot_training.planning.costs import Cost
from extracot_training.planning.ledger import TEMPLATE, Ledger, Rows, count_problems
from extracot_training.planning.shape import GIB, Shape
from extracot_training.policy.launching import SHARDING, sharding_of
from extracot_training.policy.training_settings import LARGE, PIECE, TrainingSettings

# Of the levels of a group that has them all, and of a mixture that has all of them equally often.
MEAN_LEVEL = 0.6
NO_COST = Cost(0.0, 0.0, 0, {})
# How much faster a GPU reads an encoder's tokens than two cores do.
GPU_READS = 20.0


def problems(config: ProblemsConfig, ledger: Ledger) -> Cost:
    """Rows of each source; duplicates and test problems are not looked for."""
    splits: dict[str, float] = {}
    total, tokens = 0.0, 0.0
    for source in config.sources:
        path, size = getattr(source, "path", None), getattr(source, "size", None)
        length = ledger.assume.prompt_tokens
        if isinstance(path, Path):
            key = source.fields.question if isinstance(source, JsonlSource) else "question"
            skip = getattr(source, "bad_rows", None) == "skip"
            count, measured = count_problems(path, ledger.assume, key, skip=skip)
            length = measured + TEMPLATE
        else:
            count = int(size or source.limit or 0)
        count = min(count, source.limit or count)
        total, tokens = total + count, tokens + count * length
        if source.split is not None:
            shares = {source.split: 1.0}
        else:
            dev, test = config.splits.dev, config.splits.test
            shares = {"train": 1 - dev - test, "dev": dev, "test": test}
        for split, share in shares.items():
            splits[split] = splits.get(split, 0.0) + count * share
    told: dict[str, float] = {split: rows for split, rows in splits.items() if rows}
    ledger.put(config.out, Rows(told, tokens / total if total else 0.0))
    return _on_cpu(total, ledger)


def teach(config: TeachConfig, ledger: Ledger) -> Cost:
    """Replies of the policy model at ``samples`` each; those of ``solved`` problems go on."""
    given, assume = ledger.of(config.input, "input"), ledger.assume
    asked = min(given.count(*config.splits), config.limit or float("inf"))
    share = asked / given.count() if given.count() else 0.0
    each = 1 if config.keep_per_problem is None else config.keep_per_problem
    kept = assume.solved * min(each, config.each) if config.source == "policy" else 1.0
    splits: dict[str, float] = {split: rows * share * kept for split, rows in given.splits.items()
              if split in config.splits}  # fmt: skip
    ledger.put(config.out, Rows(splits, given.prompt, assume.reasoning_tokens,
                                assume.answer_tokens))  # fmt: skip
    if config.source == "own":
        return _on_cpu(asked, ledger)
    tokens = asked * config.each * (assume.reasoning_tokens + assume.answer_tokens)
    gpus = _engine_gpus(config.backend)
    hours = costs.generation_hours(tokens, assume.tokens_per_s, gpus)
    return Cost(tokens, hours, gpus, {})


def annotate(config: Any, ledger: Ledger) -> Cost:
    """As many rows as it reads; by the labels that traces came with, no model is asked."""
    given = ledger.of(config.input, "input")
    ledger.put(config.out, given)
    return _on_cpu(given.count(), ledger)


def compressor(config: CompressorConfig, ledger: Ledger) -> Cost:
    """The encoder reads every trace once; what is trained on it is small."""
    given = ledger.of(config.input, "input")
    tokens = given.count() * given.tokens * (1.0 if config.strategy == "steps" else config.epochs)
    return Cost(tokens, tokens / ledger.assume.encoder_per_s / 3600, 0, {})


def compress(config: CompressConfig, ledger: Ledger) -> Cost:
    """A row per trace and ratio."""
    given, assume = ledger.of(config.input, "input"), ledger.assume
    count = min(given.count(), config.limit or float("inf"))
    share = count / given.count() * assume.clean * len(config.ratios)
    mean = sum(config.ratios) / len(config.ratios)
    splits = {split: rows * share for split, rows in given.splits.items()}
    ledger.put(config.out, Rows(splits, given.prompt, given.reasoning * mean, given.answer))
    tokens = count * given.tokens
    on_gpu = not config.device.startswith("cpu")
    per_second = assume.encoder_per_s * (GPU_READS if on_gpu else 1.0)
    return Cost(tokens, tokens / per_second / 3600, int(on_gpu), {})


def mix(config: MixConfig, ledger: Ledger) -> Cost:
    """Rows of every level by its share, native rows of ``also``, policy rows beside them."""
    named = config.compressed or config.traces
    assert named is not None  # the settings say so
    given = ledger.of(named, "compressed" if config.compressed else "traces")
    ledger.models[str(config.out)] = ledger.shape(config.model)
    shares = config.level_shares or (1.0,) * len(config.prompt.ratios)
    if config.compressed is None:
        shares = (1.0,)
    most = len(shares) * (config.limit or float("inf"))
    fixed = min(_wanted(given, config.splits), most) * sum(shares) / len(shares)
    fixed += config.further_native if config.compressed is not None else 0
    tokens = fixed * given.tokens
    for one in config.also:
        further = ledger.of(one.traces, "also")
        count = min(_wanted(further, config.splits), one.limit or float("inf"))
        fixed, tokens = fixed + count, tokens + count * further.tokens
    rows = fixed * (1 + config.policy.share)
    reasoning = tokens / fixed - given.prompt - given.answer if fixed else 0.0
    ledger.put(config.out, Rows({"train": rows}, given.prompt, max(0.0, reasoning), given.answer))
    return _on_cpu(rows, ledger)


def _wanted(given: Rows, splits: Sequence[str]) -> float:
    """Rows of these splits, or all where they do not say theirs."""
    return given.count() if "all" in given.splits else given.count(*splits)


def sft(config: SftConfig, ledger: Ledger) -> Cost:
    """All rows, ``epochs`` times, or ``max_steps`` of them."""
    given, shape = ledger.of(config.input, "input"), ledger.shape(config.model)
    gpus, shards = _processes(config)
    step = config.batch * config.passes(gpus) * gpus
    rows = given.count() * config.epochs
    if config.max_steps is not None:
        rows = min(rows, float(config.max_steps * step))
    tokens = rows * min(given.tokens, config.cutoff)
    learning = costs.learning_share(shape, config.freeze_layers)
    times = max(1.0, config.epochs) if config.cache_states else 1.0
    read = tokens / times  # through frozen layers
    operations = costs.passes(config) * learning * tokens + costs.FORWARD * (1 - learning) * read
    hours = costs.training_hours(operations * shape.weights, gpus, ledger.assume)
    memory = costs.states(config, shape, shards, learning)
    memory |= _sft_activations(config, shape)
    ledger.models[str(config.out)] = shape
    return Cost(tokens, hours, _on_gpus(config, gpus), memory)


def _sft_activations(config: SftConfig, shape: Shape) -> dict[str, float]:
    """Of the largest pass; frozen layers keep nothing, and on a CPU logits are made in pieces."""
    rows, length = config.batch, config.cutoff
    if config.pass_tokens is not None:
        rows = max(1, min(rows, config.pass_tokens // length))
    above = replace(shape, layers=shape.layers - config.freeze_layers)
    found = costs.activations(config, above, rows, length)
    if config.device == "cpu" and shape.vocabulary >= LARGE:
        found["logits"] *= min(1.0, PIECE / (rows * length))
    return found


def reference(config: ReferenceConfig, ledger: Ledger) -> Cost:
    """``k`` replies per problem and level."""
    given, assume = ledger.of(config.input, "input"), ledger.assume
    splits: dict[str, float] = {split: min(given.count(split), config.limit or float("inf"))
              for split in config.splits}  # fmt: skip
    levels = config.levels or (0.2, 0.4, 0.6, 0.8, 1.0)
    each = assume.reasoning_tokens * sum(levels) / len(levels) + assume.answer_tokens
    tokens = sum(splits.values()) * len(levels) * config.k * each
    ledger.put(config.out, Rows(splits, given.prompt))
    gpus = _engine_gpus(config.backend)
    per_second = assume.tokens_per_s if config.backend.kind == "vllm" else assume.sampler_per_s
    return Cost(tokens, costs.generation_hours(tokens, per_second, gpus), gpus, {})


def chrpo(config: ChrpoConfig, ledger: Ledger) -> Cost:
    """Rounds of rollouts at every level, an update or more of each, and the dev evaluations."""
    given, shape = ledger.of(config.input, "input"), ledger.shape(config.model)
    assume = ledger.assume
    gpus, shards = _processes(config)
    rounds = config.steps * config.prompts_each(gpus) * gpus * config.group
    reply = min(
        assume.reasoning_tokens * MEAN_LEVEL + assume.answer_tokens, config.rollouts.max_tokens
    )
    again = sum(assume.flat**n for n in range(1, config.rollouts.redraws + 1))
    drawn = rounds * (1 + again) * reply
    learnt = rounds * (given.prompt + reply)
    # Each token is also read once as it was drawn, and once by the start where that has a price.
    read = costs.FORWARD * (1 + bool(config.kl))
    operations = shape.weights * learnt * (costs.passes(config) * config.iterations + read)
    fast = bool(config.trainer.get("use_vllm"))
    hours = costs.training_hours(operations, gpus, assume)
    hours += costs.generation_hours(
        drawn, assume.tokens_per_s if fast else assume.sampler_per_s, gpus
    )
    asked, every = config.evaluation, config.evaluation.every
    times = 1 + (config.steps // every if every else 1)
    dev = given.count(config.dev_split) or given.count()
    judged = min(dev, asked.problems or dev) * asked.samples * times
    tokens = judged * min(reply, asked.max_tokens or reply)
    hours += costs.generation_hours(tokens, assume.sampler_per_s, gpus)
    ledger.models[str(config.out)] = shape
    memory = _chrpo_memory(config, ledger, shards, given.prompt, fast)
    return Cost(drawn + tokens, hours, _on_gpus(config, gpus), memory)


def _chrpo_memory(
    config: ChrpoConfig, ledger: Ledger, shards: int, prompt: float, fast: bool
) -> dict[str, float]:
    """The larger of learning and generating, where vLLM sleeps meanwhile; else both."""
    shape = ledger.shape(config.model)
    gib, trainer = ledger.assume.gpu_gib * GIB, config.trainer
    held = costs.states(config, shape, shards)
    if config.kl and config.lora is None:
        held["start"] = held["weights"]
    micro = config.micro_batch or config.prompts * config.group
    learning = costs.activations(config, shape, micro, prompt + config.rollouts.max_tokens)
    batch = config.evaluation.batch or config.rollouts.batch
    length = prompt + (config.evaluation.max_tokens or config.rollouts.max_tokens)
    twice = 1 if config.precision == "pure_bf16" else 2  # our sampler keeps the weights' type
    sampler = {"sampler's cache": twice * costs.cache(shape, batch, length)}
    engine = {"vLLM": gib * float(trainer.get("vllm_gpu_memory_utilization", 0.3))} if fast else {}
    asleep = bool(trainer.get("vllm_enable_sleep_mode"))
    parts = [learning, sampler, engine] if asleep else [learning | engine, sampler | engine]
    return held | max(parts, key=lambda part: sum(part.values()))


def evaluate(config: EvaluateConfig, ledger: Ledger) -> Cost:
    """Every budget of every problem."""
    given, assume = ledger.of(config.input, "input"), ledger.assume
    asked = min(given.count(*config.splits), config.limit or float("inf"))
    shares = [budget if isinstance(budget, float) else
              {"auto": MEAN_LEVEL, "native": 1.0, "none": 0.0}[budget]
              for budget in config.budgets]  # fmt: skip
    each = sum(share * assume.reasoning_tokens + assume.answer_tokens for share in shares)
    tokens = asked * config.samples * each
    return Cost(tokens, costs.generation_hours(tokens, assume.served_per_s), 1, {})


def other(config: Any, ledger: Ledger) -> Cost:
    """Seconds: publishing, comparing."""
    return NO_COST


STAGES: dict[str, Callable[[Any, Ledger], Cost]] = {
    "problems": problems, "teach": teach, "annotate": annotate, "compressor": compressor,
    "compress": compress, "mix": mix, "sft": sft, "reference": reference, "chrpo": chrpo,
    "evaluate": evaluate, "publish": other, "compare": other,
}  # fmt: skip


def _on_cpu(rows: float, ledger: Ledger) -> Cost:
    return Cost(0.0, rows / ledger.assume.rows_per_s / 3600, 0, {})


def _on_gpus(config: TrainingSettings, processes: int) -> int:
    return 0 if config.device == "cpu" else processes


def _processes(config: TrainingSettings) -> tuple[int, int]:
    """How many, and among how many the weights are shared out."""
    count = max(config.processes, world_size())
    sharded = config.accelerate is not None and sharding_of(config.accelerate) in SHARDING
    return count, count if sharded else 1


def _engine_gpus(backend: Any) -> int:
    engine = getattr(backend, "engine", None) or {}
    return int(engine.get("tensor_parallel_size", 1)) * int(engine.get("data_parallel_size", 1))
