"""Training steps of ours and of plain TRL's trainers, on equal terms, and what each step costs.

Equal on both sides: weights, tokenizer, data, settings (the stages' own translation of theirs into
TRL's arguments), one log line a step, no checkpoint. A step lasts from the end of the one before to
its own, so reading data and writing the log are in it; setting up is not.

SFT: the batches are the same, since TRL reads, in sequence, rows in the order of our sampler
(by length; TRL's own order would pad more). Our trainer scores reply tokens alone on a CPU and
uses TRL's fused head on a GPU: the second is measured here, on a CPU, as well, because it is the
bare cost of what we add, while the first gains in the head what it may lose elsewhere.

CHRPO: prompts, group, length of replies, clipped loss and reward functions are the same. TRL gets
prompts as text and tokenizes them (to the same ids: checked); we look the ids up. No reply can end
early, so every batch has the same shape on every side, and what our sampler saves on replies that
end is left out; that it reads each prompt once per group counts. Not equal: TRL draws by its
`generate`, we by our sampler with a seed a reply; we make an advantage for every token and figures
of each round besides. `generation` is drawing replies; `update` is all the rest of the step:
rewards, advantages, loss, gradients, the optimizer, the log. With TRL's own `generate` on both
sides the first is the same work. Tokens are those of replies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any, NamedTuple, Self

from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOTrainer, SFTTrainer

from benchmarks.paired import Cost, Parts, Report
from extracot_training.config.base import BaseModelConfig
from extracot_training.config.chrpo import ChrpoConfig
from extracot_training.config.sft import SftConfig
from extracot_training.generation.rollout.base import PromptMaker, ReplyReader
from extracot_training.pipeline.records import Problem, write_rows
from extracot_training.policy.loading import load_policy_model, load_policy_tokenizer
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.pretrained import pad_id
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.stages.base import stage as base_stage
from extracot_training.stages.chrpo.scoring import RewardScorer
from extracot_training.stages.chrpo.stage import grpo_arguments
from extracot_training.stages.chrpo.stage import make_trainer as make_chrpo_trainer
from extracot_training.stages.chrpo.tasks import Task, Tasks, schedule
from extracot_training.stages.chrpo.trainer import ChrpoTrainer, Rewards
from extracot_training.stages.mix.sources import Source
from extracot_training.stages.mix.stage import RowMaker
from extracot_training.stages.sft.stage import make_trainer, sft_arguments
from extracot_training.stages.sft.trainer import GroupedSampler, as_dataset
from extracot_training.synthetic import Generator

PROMPT = PromptSettings()
SEED = 3
# An end token that no model draws.
NEVER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes of a comparison: the model's shape, and the batch of each kind of step."""

    shape: Mapping[str, int]
    batch: int = 4
    accumulation: int = 2
    prompts: int = 4
    group: int = 4
    reply: int = 64


QUICK = Scale(
    {"width": 32, "layers": 1, "heads": 1, "head_dim": 32, "feed_forward": 48},
    batch=2, accumulation=1, prompts=1, group=2, reply=8,
)  # fmt: skip
# One so small that what trainers add to the model's own work shows, and one where it should not.
FULL = (
    Scale({"width": 64, "layers": 2, "heads": 2, "head_dim": 32, "feed_forward": 192}),
    Scale({"width": 192, "layers": 4, "heads": 6, "head_dim": 32, "feed_forward": 576}),
)


@dataclass(frozen=True, slots=True)
class World:
    """A model folder and what it is to be trained on, for so many steps."""

    scale: Scale
    steps: int
    model: str
    weights: int
    rows: Sequence[MixedRow]
    tasks: Sequence[Task]

    @classmethod
    def make(cls, folder: Path, scale: Scale, steps: int) -> Self:
        """Generated problems, a model that knows their words, rows at all levels, CHRPO's tasks."""
        wanted = scale.batch * scale.accumulation * steps
        each = len(PROMPT.ratios) + 1
        count = max(-(-wanted // each), scale.prompts)
        records = some_problems(count)
        (folder / "problems").mkdir()
        write_rows(folder / "problems" / "rows.jsonl", records)
        config = BaseModelConfig.model_validate(
            {"inputs": [folder / "problems"], "out": folder / "base", "model": scale.shape,
             "vocabulary": {"min_count": 1}}
        )  # fmt: skip
        made = base_stage.run(config)
        tokenizer, _ = load_policy_tokenizer(str(made.folder), PROMPT)
        rows = rows_of(records, RowMaker(tokenizer, PROMPT))
        prompts = PromptMaker(tokenizer, PROMPT)
        tasks = [
            Task(one.id, prompts.policy(one.question), one.answer, 0.6, 100.0) for one in records
        ]
        weights = made.counts["parameters"]
        return cls(scale, steps, str(made.folder), weights, rows[:wanted], tasks)


def some_problems(count: int) -> list[Problem]:
    """Generated ones of two to five steps."""
    return [
        Problem(
            id=f"p{one.index}", question=one.question, answer=str(one.answer),
            solution=one.trace, source="generated", license="none", split="train",
        )
        for one in Generator(seed=9, max_number=100, steps=(2, 5)).make(count)
    ]  # fmt: skip


def rows_of(problems: Sequence[Problem], maker: RowMaker) -> list[MixedRow]:
    """A row per level and one in policy mode of each problem's trace, cut after so many words."""
    rows = []
    for problem in problems:
        full = problem.solution or ""
        words = full.split(" ")
        texts = {r: " ".join(words[: round(r * len(words))]) for r in PROMPT.ratios}
        answer = f"\\boxed{{{problem.answer}}}"
        source = Source(problem.id, 0, problem.question, answer, full, texts)
        rows += [maker.make(source, "level", ratio, 0) for ratio in PROMPT.ratios]
        rows.append(maker.make(source, "policy", PROMPT.ratios[2], 0))
    return rows


def sft(world: World, head: str | None, report: Report) -> None:
    """Report SFT steps: ours with head ``plain`` or ``fused``, or TRL's own (``None``)."""
    scale = world.scale
    with TemporaryDirectory() as name:
        folder = Path(name)
        config = SftConfig.model_validate(
            {"input": folder, "model": world.model, "out": folder, "seed": SEED,
             "max_steps": world.steps, "batch": scale.batch, "checkpoint_every": 0,
             "accumulation": scale.accumulation, "log_every": 1, **_ON_A_CPU}
        )  # fmt: skip
        model, tokenizer, tokens = load_policy_model(world.model, PROMPT, seed=SEED)
        trainer: Any
        if head is None:
            arguments = sft_arguments(config, folder)
            arguments.train_sampling_strategy = "sequential"
            lengths = [row.length for row in world.rows]
            order = GroupedSampler(lengths, config.batch, seed=SEED)
            trainer = SFTTrainer(
                model=model,
                args=arguments,
                train_dataset=as_dataset([world.rows[place] for place in order]),
                processing_class=tokenizer,
            )
        else:
            trainer = make_trainer(config, folder, world.rows, model, tokenizer, tokens)
            trainer._plain_loss = head == "plain"
        _train(trainer, SftClock(report))


def chrpo(world: World, backend: str | None, report: Report) -> None:
    """Report CHRPO steps with rollouts by ``generate`` (our sampler) or ``trl``, or of TRL's plain
    GRPO (``None``)."""
    scale = world.scale
    with TemporaryDirectory() as name:
        folder = Path(name)
        config = ChrpoConfig.model_validate(
            {"input": folder, "model": world.model, "out": folder, "seed": SEED,
             "steps": world.steps, "prompts": scale.prompts, "group": scale.group,
             "rollouts": {"backend": backend or "generate", "max_tokens": scale.reply},
             "evaluation": {"every": 0}, "checkpoint_every": 0, **_ON_A_CPU,
             # Levels are drawn, as TRL's trainer has them.
             "groups": "chosen", "objective": {"price_rate": 0}}
        )  # fmt: skip
        make = _plain_grpo if backend is None else _chrpo_trainer
        trainer = make(world, config, folder)
        trainer.eos_token_ids = [NEVER]
        trainer.generation_config.eos_token_id = [NEVER]
        clock = GrpoClock(report, scale.prompts * scale.group * scale.reply)
        draw = "_replies" if isinstance(trainer, ChrpoTrainer) else "_generate_single_turn"
        setattr(trainer, draw, clock.timed(getattr(trainer, draw)))
        _train(trainer, clock)


_ON_A_CPU = {"precision": "fp32", "gradient_checkpointing": False, "device": "cpu"}


def _chrpo_trainer(world: World, config: ChrpoConfig, folder: Path) -> Any:
    """As stage ``chrpo`` makes it."""
    model, tokenizer, tokens = load_policy_model(world.model, PROMPT, seed=SEED)
    tokenizer.pad_token_id = pad_id(tokenizer)
    return make_chrpo_trainer(
        config,
        (model, tokenizer, tokens),
        PROMPT,
        Tasks(tuple(world.tasks), (), 0),
        world.tasks[:1],
        arguments=grpo_arguments(config, folder),
        folder=folder,
    )


def _plain_grpo(world: World, config: ChrpoConfig, folder: Path) -> Any:
    """TRL's trainer with the same arguments and reward functions, its prompts as text."""
    model, tokenizer, tokens = load_policy_model(world.model, PROMPT, seed=SEED)
    tokenizer.pad_token_id = pad_id(tokenizer)
    texts = {task.problem_id: tokenizer.decode(task.prompt_ids) for task in world.tasks}
    for task in world.tasks:
        ids = tokenizer(text=[texts[task.problem_id]])["input_ids"][0]
        assert tuple(ids) == task.prompt_ids, "TRL would train on another prompt"
    scorer = RewardScorer(ReplyReader(tokenizer, PROMPT, tokens), config.objective)
    rewards = Rewards({texts[task.problem_id]: task for task in world.tasks}, scorer)
    order = schedule(world.tasks, config.steps * config.prompts, SEED)
    return GRPOTrainer(
        model=model,
        reward_funcs=[rewards.main, rewards.ctrl],
        args=grpo_arguments(config, folder),
        train_dataset=Dataset.from_dict({"prompt": [texts[id_] for id_ in order]}),
        processing_class=tokenizer,
    )


class Seconds(NamedTuple):
    """On the wall, and of CPU time of this process."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Self:
        return cls(perf_counter(), process_time())

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)

    def cost(self, tokens: int) -> Cost:
        return Cost(tokens, self.wall, self.cpu)


class StepClock(TrainerCallback, ABC):  # type: ignore[misc]
    """Times steps, and reports each; while others have their turn, time stands still."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._began = Seconds.now()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._report(self.parts(Seconds.now() - self._began, state))
        self._began = Seconds.now()

    @abstractmethod
    def parts(self, whole: Seconds, state: Any) -> Parts:
        """What a step that took so long consists of."""


class SftClock(StepClock):
    """Tokens are those that the trainer counts, padding left out."""

    _seen = 0

    def parts(self, whole: Seconds, state: Any) -> Parts:
        tokens = state.num_input_tokens_seen - self._seen
        self._seen = state.num_input_tokens_seen
        return {"step": whole.cost(tokens)}


class GrpoClock(StepClock):
    """Tokens are those of replies, which are to be so many a step."""

    def __init__(self, report: Report, tokens: int) -> None:
        super().__init__(report)
        self._tokens = tokens
        self._drawing = Seconds(0.0, 0.0)

    def timed(self, draw: Callable[..., Any]) -> Callable[..., Any]:
        """``draw``, which returns the replies' ids first, with its time taken."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = Seconds.now()
            found = draw(*args, **kwargs)
            self._drawing = Seconds.now() - began
            assert sum(map(len, found[0])) == self._tokens, "a reply ended early"
            return found

        return timed

    def parts(self, whole: Seconds, state: Any) -> Parts:
        return {
            "generation": self._drawing.cost(self._tokens),
            "update": (whole - self._drawing).cost(self._tokens),
            "step": whole.cost(self._tokens),
        }


def _train(trainer: Any, clock: StepClock) -> None:
    trainer.remove_callback(PrinterCallback)
    # First, so that what our stage does when training is over is not a step's.
    trainer.callback_handler.callbacks.insert(0, clock)
    trainer.train()
