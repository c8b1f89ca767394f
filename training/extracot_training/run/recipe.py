"""Which stages a run has, in order, each with its settings. Pure: nothing is read or written.

The order is that of the recipes: levels first, then the choice by what was measured, then CHRPO,
then a draft that is served, measured and published again with its figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from extracot_training.run.data import Data, source_settings
from extracot_training.run.machine import Base
from extracot_training.run.options import OWN, VLLM, RunOptions
from extracot_training.run.presets import Preset

# Tokens of a training's pass on a CPU: enough for its matrix products, and a few GB at most.
PASS_ON_CPU = 2048
# Steps of the first training at least, so that it learns where reasoning ends: nothing could be
# measured else. After 24 all replies of SmolLM2-135M ended theirs (docs/experiments.md).
FEWEST_STEPS = 24
# Traces of fewer tokens cannot be cut as exactly.
SHORT = 400
PLACEHOLDER = "http://127.0.0.1:8000/v1"  # the server that a run starts has another port
FSDP = """\
# Weights, gradients and optimizer sharded by PyTorch's FSDP2.
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
mixed_precision: bf16
num_machines: 1
num_processes: 8
use_cpu: false
fsdp_config:
  fsdp_version: 2
  fsdp_reshard_after_forward: true
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_state_dict_type: FULL_STATE_DICT
  fsdp_cpu_ram_efficient_loading: false
  fsdp_offload_params: false
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One stage into ``OUT/name``. ``draft`` and ``measured`` are the two times that ``published``
    is made."""

    name: str
    stage: str
    settings: dict[str, Any]

    @property
    def folder(self) -> str:
        """Where it lies in the run's folder."""
        return "published" if self.stage == "publish" else self.name


@dataclass(frozen=True, slots=True)
class Effort:
    """What is spent where it is a matter of choice; 1.0 is all that the preset has."""

    epochs: float
    reference: int
    samples: int
    steps: int
    judged: int

    @classmethod
    def of(cls, preset: Preset, share: float) -> Effort:
        """``share`` of a preset, at least enough for every stage to have something to do."""
        return cls(
            epochs=round(max(0.1, 3 * share), 2),
            reference=max(4, round(preset.reference * share)),
            samples=max(2, round(preset.samples * min(1.0, 2 * share))),
            steps=max(2, round(preset.steps * share)),
            judged=max(4, round(preset.judged * share)),
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that the settings follow from."""

    options: RunOptions
    data: Data
    base: Base
    preset: Preset
    teacher: str

    def effort(self, share: float) -> Effort:
        """``share`` of the preset, with epochs for :data:`FEWEST_STEPS`, or all that it has."""
        whole, found = Effort.of(self.preset, 1.0), Effort.of(self.preset, share)
        rows = self.data.sizes["train"] * len(self.options.levels)
        least = ceil(100 * FEWEST_STEPS * self._rows() / rows) / 100
        return replace(found, epochs=min(whole.epochs, max(found.epochs, least)))

    def steps(self, effort: Effort) -> list[Step]:
        """All stages, in order."""
        steps = [*self._traces(), *self._levels(effort)]
        if self.options.policy:
            steps += self._choice(effort)
        if self.options.chrpo:
            steps += self._chrpo(effort)
        return [*steps, *self._end(steps[-1].name, effort)]

    def _traces(self) -> Iterator[Step]:
        options, data = self.options, self.data
        source = source_settings(options, options.problems)
        yield Step("problems", "problems", {
            "sources": [source], "splits": data.splits.model_dump(),
            "conflicts": options.conflicts,
            "shuffled": True,  # limits take the first: of a file by topics those of one
        })  # fmt: skip
        yield Step("teach", "teach", {"input": self._at("problems"), **self._teaching()})
        if options.compressor == "train":
            yield Step("annotate", "annotate", {
                "input": self._at("teach"), "annotator": {"kind": "rules", "context": 3},
            })  # fmt: skip
            yield Step("compressor", "compressor", {
                "input": self._at("annotate"), "encoder": "bundled:minilm",
                "adapter": {"rank": 8, "alpha": 16}, "question": 24, "asking": True,
                "learning_rate": 1.5e-3, "epochs": 2.0, "evaluations": 2,
                "dev_share": 0.1 if data.problems >= 100 else 0.3,
            })  # fmt: skip
        short = data.trace < SHORT
        yield Step("compress", "compress", {
            "input": self._at("teach"), "tokenizer": options.model,
            "compressor": self._at("compressor") if options.compressor == "train" else None,
            "ratios": list(options.levels), "bucket": 0.1 if short else 0.05,
            "cleaning": {"min_tokens": 4} if short else {},
            "device": "cuda" if self.on_gpu else "cpu",
        })  # fmt: skip

    def _teaching(self) -> dict[str, Any]:
        if self.teacher == OWN:
            return {"source": "own", "samples": 1, "splits": ["train"],
                    "tokenizer": self.options.model}  # fmt: skip
        shared = {
            "source": "policy", "samples": 4, "keep_per_problem": 1, "splits": ["train"],
            "tokenizer": self.options.model, "seed": self.options.seed,
            "sampling": {"temperature": 0.7, "top_p": 0.95, "max_tokens": self.reply},
        }  # fmt: skip
        if self.teacher == VLLM:
            engine = self._dtype() | {"max_model_len": self.cutoff}
            return shared | {
                "backend": {"kind": "vllm", "model": self.options.model, "engine": engine}
            }
        return shared | {
            "backend": {
                "kind": "http", "base_url": self.teacher, "model": self.options.teacher_model,
            }
        }  # fmt: skip

    def _levels(self, effort: Effort) -> Iterator[Step]:
        yield self._mix("mix-fixed", self.options.model, {"policy": {"share": 0.0}})
        yield self._sft("sft-fixed", "mix-fixed", self.options.model, effort.epochs)

    def _choice(self, effort: Effort) -> Iterator[Step]:
        yield self._reference("reference-fixed", "sft-fixed", ["train"], effort)
        yield self._mix("mix", self._at("sft-fixed"), {
            "reference": self._at("reference-fixed"), "policy": {"share": 0.167},
        })  # fmt: skip
        yield self._sft("sft", "mix", self._at("sft-fixed"), max(0.1, effort.epochs / 3))

    def _chrpo(self, effort: Effort) -> Iterator[Step]:
        yield self._reference("reference", "sft", ["train", "dev"], effort)
        preset, levels = self.preset, len(self.options.levels)
        group = levels * max(1, -(-(10 if self.on_gpu else levels) // levels))
        prompts = preset.prompts
        rows = prompts // preset.processes * group
        micro = max(size for size in range(1, min(preset.micro, rows) + 1) if rows % size == 0)
        fast = preset.vllm
        rollouts: dict[str, Any] = {"max_tokens": self.reply, "batch": 64}
        rollouts |= {"backend": "trl"} if fast else {}
        yield Step("chrpo", "chrpo", {
            "input": self._at("reference"), "model": self._at("sft"), "rollouts": rollouts,
            "evaluation": {
                "every": -(-effort.steps // 4), "problems": min(100, effort.judged),
                "batch": 32,
            },
            "replay": None if preset.processes > 1 else {"rows": self._at("mix"), "batch": 8},
            "steps": effort.steps, "global_prompts": prompts, "group": group,
            "micro_batch": micro, "learning_rate": preset.chrpo_rate, "kl": preset.kl,
            "checkpoint_every": max(5, effort.steps // 10),
            "trainer": self._engine() if fast else {}, "warmup": 0.05,
            **self._training(preset.lora_chrpo, sharded=False),
        })  # fmt: skip

    def _engine(self) -> dict[str, Any]:
        return {
            "use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": 0.3,
            "vllm_enable_sleep_mode": True, "vllm_max_model_length": self.cutoff,
        }  # fmt: skip

    def _end(self, last: str, effort: Effort) -> Iterator[Step]:
        options = self.options
        card = {"model": self._at(last), "name": options.served_name, "license": options.license,
                "base_model": options.model}  # fmt: skip
        yield Step("draft", "publish", card)
        if "evaluate" in options.skip:
            return
        budgets: list[Any] = [*options.levels, *(["auto"] if options.policy else []), "native"]
        yield Step("evaluate", "evaluate", {
            "input": self._at("problems"), "splits": [self.data.judged], "model":
            options.served_name, "base_url": PLACEHOLDER, "budgets": budgets,
            "limit": effort.judged, "concurrency": self.preset.concurrency,
            "sampling": {"temperature": 0.7, "top_p": 0.9, "max_tokens": self.reply},
        })  # fmt: skip
        yield Step("measured", "publish", card | {"evaluation": self._at("evaluate")})

    def _mix(self, name: str, model: str, more: dict[str, Any]) -> Step:
        settings = {
            "compressed": self._at("compress"), "traces": self._at("teach"),
            "problems": self._at("problems"), "model": model, "cutoff": self.cutoff,
            "seed": self.options.seed,
            "prompt": {"ratios": list(self.options.levels), "policy": self.options.policy},
        }  # fmt: skip
        return Step(name, "mix", settings | more)

    def _sft(self, name: str, rows: str, model: str, epochs: float) -> Step:
        preset = self.preset
        return Step(name, "sft", {
            "input": self._at(rows), "model": model, "epochs": round(epochs, 2),
            "learning_rate": preset.learning_rate, "batch": preset.batch,
            "global_batch": self._rows(), "cutoff": self.cutoff, "log_every": 1,
            "new_rows": "words", "pass_tokens": None if self.on_gpu else PASS_ON_CPU,
            "checkpoint_every": 200 if self.on_gpu else 10,
            **self._training(preset.lora_sft, sharded=preset.sharded),
        })  # fmt: skip

    def _rows(self) -> int:
        """Rows per step: fewer for little data, of which an epoch should have twenty steps."""
        at_once = self.preset.batch * self.preset.processes
        given = self.data.sizes["train"] * len(self.options.levels) // 20
        return max(at_once, min(self.preset.rows, given) // at_once * at_once)

    def _training(self, lora: bool, *, sharded: bool) -> dict[str, Any]:
        preset, options = self.preset, self.options
        return {
            "precision": preset.precision, "gradient_checkpointing": preset.recompute,
            "device": "auto" if self.on_gpu else "cpu", "processes": preset.processes,
            "accelerate": self._at("configs/fsdp2.yaml") if sharded else None,
            "lora": {"rank": 32} if lora else None, "seed": options.seed,
            "report_to": list(options.report_to),
        }  # fmt: skip

    def _reference(self, name: str, model: str, splits: Sequence[str], effort: Effort) -> Step:
        backend: dict[str, Any] = {
            "kind": "generate", "batch": 64, "device": "auto" if self.on_gpu else "cpu",
        }  # fmt: skip
        if self.preset.vllm:
            engine = self._dtype() | {"max_model_len": self.cutoff}
            backend = {"kind": "vllm", "engine": engine}
        return Step(name, "reference", {
            "input": self._at("problems"), "model": self._at(model), "splits": list(splits),
            "limit": effort.reference, "k": effort.samples, "seed": self.options.seed,
            "drawing": {"temperature": 0.7, "max_tokens": self.reply}, "backend": backend,
        })  # fmt: skip

    def _dtype(self) -> dict[str, Any]:
        return {"dtype": self.preset.dtype}

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU does the work."""
        return self.preset.gpu

    @property
    def reply(self) -> int:
        """Tokens of a reply at most: the longest trace and half as much again."""
        wanted = 1.5 * self.data.longest + 64 if self.teacher == OWN else 4096.0
        most = min(4096.0, self.base.positions / 2)
        return int(max(128.0, min(most, 64 * -(-wanted // 64))))

    @property
    def cutoff(self) -> int:
        """Tokens of a row at most."""
        prompt = 4 * self.data.prompt + 256
        return int(min(6144.0, self.base.positions, self.reply + prompt))

    def _at(self, name: str) -> str:
        return str(self.options.out / name)
