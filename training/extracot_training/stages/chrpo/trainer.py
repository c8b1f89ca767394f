"""TRL's GRPO trainer with what CHRPO needs: exact prompts, seeded rollouts, advantages per token.

What is TRL's stays TRL's: the clipped loss, KL, accumulation, devices. Seven things are put in:

- prompts are the ids that :mod:`extracot.prompt` rendered: the data set holds keys of tasks, and
  nothing is tokenised again;
- rollouts are drawn by seeds made of the run's seed, the step and the row, so that they are a
  function of the weights and a resumed run draws what an uncut one does;
- in stratified groups the first token of every reply is a level in its turn, and what the policy
  would have chosen is known from the prompt's logits, read once for all its replies
  (:mod:`extracot_training.stages.chrpo.stratified`, :mod:`~extracot_training.stages.chrpo.choice`);
- each rollout has two rewards, and its level token another advantage than the rest;
- a share of the prompts may name their level, which is forced then, not chosen: such a reply has no
  level token, and only ``main`` counts;
- rows of fine-tuning may join every update (:mod:`extracot_training.stages.chrpo.replay`);
- groups without signal may be drawn again (:mod:`extracot_training.stages.chrpo.drawing`).

A round is the same on one process as on several: a rollout's seed goes by its row among all.

Where the policy draws (groups ``chosen``), the first token is drawn from the whole vocabulary, as
the loss has it, and a reply that begins with something else than a level is invalid (reward -1). A
server restricts that token to levels; after SFT nearly all of the probability lies there anyway
(``level_mass`` in the log says how much).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation

from extracot_training.config.chrpo import ChrpoConfig
from extracot_training.config.sampling import RolloutSamplingParams
from extracot_training.generation.rollout.sampler import Generated, Sampler, seed_of
from extracot_training.policy.control_tokens import ControlTokens
from extracot_training.policy.trainer import PolicyTrainer
from extracot_training.stages.chrpo.advantage import (
    Advantage,
    control_weights,
    token_row,
)
from extracot_training.stages.chrpo.choice import ChoiceState, Group, advantages_of, choice_figures
from extracot_training.stages.chrpo.drawing import Draw, Substitutes, drawn_again
from extracot_training.stages.chrpo.replay import Replay
from extracot_training.stages.chrpo.scoring import (
    RewardScorer,
    Scored,
    figures_of,
    flat_figures,
    forced_figures,
)
from extracot_training.stages.chrpo.stratified import planned_levels
from extracot_training.stages.chrpo.tasks import Task


class Rewards:
    """The two reward functions, as TRL calls them: ``main`` first, then ``ctrl``."""

    def __init__(self, tasks: Mapping[str, Task], scorer: RewardScorer) -> None:
        self._tasks = tasks
        self._scorer = scorer
        self.known: list[Scored] = []
        self.scored: list[Scored] = []

    def main(
        self, prompts: Sequence[str], completion_ids: Sequence[Sequence[int]], **_: Any
    ) -> list[float]:
        """The rollouts' scores, which are kept: those that are ``known`` already, once, or made
        here. ``prompts`` are keys of tasks."""
        self.scored, self.known = self.known or self.score(prompts, completion_ids), []
        return [one.reward.main for one in self.scored]

    def score(self, keys: Sequence[str], replies: Sequence[Sequence[int]]) -> list[Scored]:
        """What replies to the tasks of these keys earn; keeps nothing."""
        return [
            self._scorer.score(self._tasks[key], ids)
            for key, ids in zip(keys, replies, strict=True)
        ]

    def ctrl(self, **_: Any) -> list[float]:
        """Of the rollouts that were scored last."""
        return [one.reward.ctrl for one in self.scored]

    def set_price(self, price: float) -> None:
        """What a level costs from now on."""
        self._scorer.price = price


class ChrpoTrainer(PolicyTrainer, GRPOTrainer):  # type: ignore[misc]
    """See the module. ``figures`` are those of the last round of rollouts."""

    def __init__(
        self,
        config: ChrpoConfig,
        tasks: Mapping[str, Task],
        rewards: Rewards,
        tokens: ControlTokens,
        levels: Sequence[float],
        replay: Replay | None = None,
        choice: ChoiceState | None = None,
        **kwargs: Any,
    ) -> None:
        self._config = config
        self._tasks = tasks
        self._rewards = rewards
        self._tokens = tokens
        self._levels = tuple(levels)
        self._replay = replay
        self._choice = choice or ChoiceState.of(config, {}, {}, levels)
        self._arms: list[int | None] = []
        self._draw: Draw | None = None
        self._first: list[tuple[float, ...]] = []
        self._substitutes = Substitutes(tasks, config.seed)
        self.figures: dict[str, Any] = {}
        super().__init__(reward_funcs=[rewards.main, rewards.ctrl], **kwargs)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        temperature: float,
        forced: Sequence[int | None] | None = None,
        *,
        max_tokens: int | None = None,
        batch: int | None = None,
    ) -> list[Generated]:
        """Replies to prompts, drawn by their seeds from the model as it is now; ``forced`` are ids
        that they begin with. What is not given is as in rollouts."""
        settings = self._config.rollouts
        params = RolloutSamplingParams(
            temperature=temperature, max_tokens=max_tokens or settings.max_tokens
        )
        with unwrap_model_for_generation(
            self.model_wrapped,
            self.accelerator,
            gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
        ) as model:
            sampler = Sampler(
                model,
                params,
                end_ids=self.eos_token_ids,
                batch=batch or settings.batch,
                pad_id=self._tokenizer.pad_token_id,
                watched=self._tokens.levels,
                watched_at=temperature or 1.0,
            )
            return sampler.generate(prompts, seeds, forced)

    def _compute_loss(self, model: Any, inputs: Any) -> Tensor:
        """A scalar: TRL's, and where rows are replayed, theirs beside it."""
        loss: Tensor = super()._compute_loss(model, inputs)
        if self._replay is None:
            return loss
        parts = self.current_gradient_accumulation_steps
        rows = self._replay.drawn(self.state.global_step, self.accelerator.process_index)
        again = self._replay.loss(model, rows, self._step % parts, parts)
        if self._step % parts == 0:
            self.figures["replay_loss"] = 0.0
        self.figures["replay_loss"] += again.item()
        return loss + self._replay.weight * again

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [list(self._tasks[prompt].prompt_ids) for prompt in prompts], None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any
    ) -> tuple[list[list[int]], Any]:
        """What was drawn for this round already."""
        assert self._draw is not None and len(self._draw.ids) == len(prompt_ids)
        return self._draw.ids, self._draw.logps

    def _drawn(self, rows: Sequence[int], keys: Sequence[str], attempt: int) -> Draw:
        """Replies to the tasks of ``keys``, scored; ``rows`` are their places in this process."""
        ids, logps, first = self._replies(rows, keys, attempt)
        return Draw(list(keys), ids, logps, first, self._rewards.score(keys, ids))

    def _replies(
        self, rows: Sequence[int], keys: Sequence[str], attempt: int
    ) -> tuple[list[list[int]], Any, list[tuple[float, ...]]]:
        """Their ids, and what is known of each token and of the levels at the prompt."""
        arms = [self._arms[row] for row in rows]
        forced = [None if arm is None else self._tokens.levels[arm] for arm in arms]
        prompts = [self._tasks[key].prompt_ids for key in keys]
        if self._config.rollouts.backend == "trl":
            return *self._drawn_by_trl(prompts, forced), []
        step = self.state.global_step
        begin = self.accelerator.process_index * len(self._arms)
        more = (attempt,) if attempt else ()
        seeds = [seed_of(self._config.seed, "rollout", step, 0, begin + row, *more) for row in rows]
        replies = self.sample(prompts, seeds, self._config.rollouts.temperature, forced)
        return [list(one.ids) for one in replies], None, [one.first for one in replies]

    def _drawn_by_trl(
        self, prompts: Sequence[Sequence[int]], forced: Sequence[int | None]
    ) -> tuple[list[list[int]], Any]:
        """TRL's own generation; a forced id goes to the end of its prompt and then to the reply."""
        begin = [[] if id_ is None else [id_] for id_ in forced]
        longer = [[*ids, *first] for ids, first in zip(prompts, begin, strict=True)]
        each = 1 if any(begin) else self.num_generations  # prompts of a group differ then
        ids, logps = super()._generate_single_turn(longer, None, {}, each)
        ids = [[*first, *own] for first, own in zip(begin, ids, strict=True)]
        if logps is not None:  # none was drawn for a forced id: TRL takes its ratio as 1
            logps = [[*(None for _ in first), *own]
                     for first, own in zip(begin, logps, strict=True)]  # fmt: skip
        return ids, logps

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        keys = [entry["prompt"] for entry in inputs]
        self._arms = self._planned(keys)
        self._rewards.set_price(self._choice.controller.price)
        first = self._draw = self._drawn(range(len(keys)), keys, 0)
        again = 0
        if self._config.rollouts.redraws:
            self._draw, again = self._with_signal(first)
            inputs = [entry | {"prompt": key}
                      for entry, key in zip(inputs, self._draw.keys, strict=True)]  # fmt: skip
        self._first = self._draw.first
        self._rewards.known = self._draw.scored
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        groups = self._groups(self._draw)
        output["advantages"] = self._token_advantages(output, groups)
        measured = self._groups(first) if self._config.rollouts.redraws else groups
        self.figures = self._round_figures() | self._choice.learn(
            gather_object(measured), gather_object(first.scored), self._round + 1
        )
        if self._config.rollouts.redraws:
            self.figures["redrawn"] = sum(gather_object([again]))
        self._track("chrpo/", self.figures)
        return output

    def _with_signal(self, first: Draw) -> tuple[Draw, int]:
        size = self.num_generations
        return drawn_again(
            first,
            self._drawn,
            self._substitutes,
            size=size,
            attempts=self._config.rollouts.redraws,
            step=int(self.state.global_step),
            group=self.accelerator.process_index * len(first.keys) // size,
            count_all=lambda number: sum(gather_object([number])),
            along=self._config.rollouts.backend == "trl",
        )

    def _track(self, prefix: str, figures: Mapping[str, Any]) -> None:
        """Let trackers have the figures at TRL's next line of them."""
        for name, value in flat_figures(figures, prefix):
            self._metrics["train"][name].append(value)

    def track_now(self, prefix: str, figures: Mapping[str, Any]) -> None:
        """Let trackers have the figures at once, without TRL's of a round that is not over."""
        due = self.control.should_log
        Trainer.log(self, dict(flat_figures(figures, prefix)))
        self.control.should_log = due  # that was not the line of this step

    @property
    def _round(self) -> int:
        return int(self.state.global_step) // self._config.iterations

    def _planned(self, keys: Sequence[str]) -> list[int | None]:
        """The level that each row is forced to, as a place; ``None`` where none is."""
        size, found = self.num_generations, list[int | None]()
        count = len(keys) // size
        turn = self._round * self.accelerator.num_processes + self.accelerator.process_index
        for number, key in enumerate(keys[::size]):
            if self._config.stratified and self._tasks[key].level is None:
                found += planned_levels(size, len(self._levels), turn * count + number)
            else:
                found += [None] * size
        return found

    def _groups(self, draw: Draw) -> list[Group]:
        """This process's groups, in their order."""
        size, scored = self.num_generations, draw.scored
        first = draw.first or self._choice_shares(draw)
        found = []
        for at in range(0, len(scored), size):
            arms = [arm for arm in self._arms[at : at + size] if arm is not None]
            own = scored[at : at + size]
            found.append(Group.of(arms, own, first[at] if arms else (), self._config))
        return found

    def _choice_shares(self, draw: Draw) -> list[tuple[float, ...]]:
        """Per row the policy's probabilities of the levels at its prompt, from the log
        probabilities of forced first tokens; where TRL generates, nobody else knows them."""
        if all(arm is None for arm in self._arms):
            return []
        prompts = [self._tasks[key].prompt_ids for key in draw.keys]
        width = max(map(len, prompts))
        pad, device = self._tokenizer.pad_token_id, self.accelerator.device
        ids = [
            [*[pad] * (width - len(prompt)), *prompt, reply[0]]
            for prompt, reply in zip(prompts, draw.ids, strict=True)
        ]
        mask = [[0] * (width - len(prompt)) + [1] * (len(prompt) + 1) for prompt in prompts]
        with torch.no_grad():
            logps, _, _ = self._get_per_token_logps_and_entropies(
                self.model,
                torch.tensor(ids, device=device),
                torch.tensor(mask, device=device),
                1,
                batch_size=self.args.per_device_train_batch_size,
            )
        found: list[tuple[float, ...]] = []
        size = self.num_generations
        for at in range(0, len(self._arms), size):
            by_arm = {
                arm: logps[at + row, 0].exp().item()
                for row, arm in enumerate(self._arms[at : at + size])
            }
            shares = tuple(by_arm.get(arm, 0.0) for arm in range(len(self._levels)))
            found += [shares] * size
        return found

    def _token_advantages(self, output: Mapping[str, Any], groups: Sequence[Group]) -> Tensor:
        """Shape (rows, tokens), of this process's rows; 0 beyond a reply's end."""
        objective = self._config.objective
        every: list[Group] = gather_object(list(groups))
        first = self.accelerator.process_index * len(groups)
        own_groups = advantages_of(every, self._config)[first : first + len(groups)]
        advantages: list[Advantage] = [one for group in own_groups for one in group]
        lengths = output["completion_mask"].sum(dim=1).tolist()
        rollouts = len(lengths) * self.accelerator.num_processes
        tokens = int(output["num_items_in_batch"])
        made = torch.zeros(output["completion_ids"].shape, dtype=torch.float32)
        for row, length in enumerate(lengths):
            scored = self._rewards.scored[row]
            has_level = scored.level is not None and not scored.forced
            own = token_row(advantages[row], length, has_level=has_level)
            if objective.control_weight is not None:
                weights = control_weights(
                    length, alpha=objective.control_weight, tokens=tokens, rollouts=rollouts
                )
                own = [weight * value for weight, value in zip(weights, own, strict=True)]
            made[row, :length] = torch.tensor(own)
        return made.to(output["completion_ids"].device)

    def _round_figures(self) -> dict[str, Any]:
        scored: list[Scored] = gather_object(self._rewards.scored)
        free = [one for one in scored if not one.forced]
        figures = figures_of(free, self._levels) if free else {}
        if len(free) < len(scored):
            figures["given"] = forced_figures(scored)
        groups = [scored[at : at + self.num_generations]
                  for at in range(0, len(scored), self.num_generations)]  # fmt: skip
        # Of all groups, those at forced levels included.
        alike = [len({one.reward.main for one in group}) == 1 for group in groups]
        figures["groups_without_signal"] = sum(alike) / len(alike)
        # The levels' shares of the first token, where a reply chose; TRL's generation tells none.
        replies = zip(self._first, self._rewards.scored, strict=True) if self._first else ()
        if first := gather_object([shares for shares, one in replies if not one.forced]):
            figures |= choice_figures(first)
        return figures

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            self._choice.save(self._checkpoint_folder(trial))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._choice.load(Path(checkpoint))

    def _checkpoint_folder(self, trial: Any) -> Path:
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        return Path(self._get_output_dir(trial=trial)) / name
