"""TRL's GRPO trainer with what CHRPO needs: exact prompts, seeded rollouts, advantages per token.

What is TRL's stays TRL's: the clipped loss, KL, accumulation, devices. Five things are put in:

- prompts are the ids that :mod:`extracot.prompt` rendered: the data set holds keys of tasks, and
  nothing is tokenised again;
- rollouts are drawn by seeds made of the run's seed, the step and the row, so that they are a
  function of the weights and a resumed run draws what an uncut one does;
- each rollout has two rewards, and its level token another advantage than the rest;
- a share of the prompts may name their level, which is forced then, not chosen: such a reply has no
  level token, and only ``main`` counts;
- rows of fine-tuning may join every update (:mod:`extracot_training.stages.chrpo.replay`).

The first token is drawn from the whole vocabulary, as the loss has it, and a reply that begins with
something else than a level is invalid (reward -1). A server restricts that token to levels; after
SFT nearly all of the probability lies there anyway (``level_mass`` in the log says how much).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation

from extracot_training.config.chrpo import ChrpoConfig
from extracot_training.config.sampling import RolloutSamplingParams
from extracot_training.generation.rollout.sampler import Generated, Sampler, seed_of
from extracot_training.policy.control_tokens import ControlTokens
from extracot_training.policy.trainer import PolicyTrainer
from extracot_training.stages.chrpo.advantage import batch_advantages, control_weights, token_row
from extracot_training.stages.chrpo.replay import Replay
from extracot_training.stages.chrpo.scoring import RewardScorer, Scored, figures_of, forced_figures
from extracot_training.stages.chrpo.tasks import Task


class Rewards:
    """The two reward functions, as TRL calls them: ``main`` first, then ``ctrl``."""

    def __init__(self, tasks: Mapping[str, Task], scorer: RewardScorer) -> None:
        self._tasks = tasks
        self._scorer = scorer
        self.scored: list[Scored] = []

    def main(
        self, prompts: Sequence[str], completion_ids: Sequence[Sequence[int]], **_: Any
    ) -> list[float]:
        """Scores the rollouts and keeps the scores. ``prompts`` are keys of tasks."""
        self.scored = [
            self._scorer.score(self._tasks[prompt], ids)
            for prompt, ids in zip(prompts, completion_ids, strict=True)
        ]
        return [one.reward.main for one in self.scored]

    def ctrl(self, **_: Any) -> list[float]:
        """Of the rollouts that were scored last."""
        return [one.reward.ctrl for one in self.scored]


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
        **kwargs: Any,
    ) -> None:
        self._config = config
        self._tasks = tasks
        self._rewards = rewards
        self._tokens = tokens
        self._levels = tuple(levels)
        self._replay = replay
        self._gathered: Tensor | None = None
        self._first: list[tuple[float, ...]] = []
        self.figures: dict[str, Any] = {}
        super().__init__(reward_funcs=[rewards.main, rewards.ctrl], **kwargs)

    def sample(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], temperature: float
    ) -> list[Generated]:
        """Replies to prompts, drawn by their seeds from the model as it is now."""
        settings = self._config.rollouts
        params = RolloutSamplingParams(temperature=temperature, max_tokens=settings.max_tokens)
        with unwrap_model_for_generation(
            self.model_wrapped,
            self.accelerator,
            gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
        ) as model:
            sampler = Sampler(
                model,
                params,
                end_ids=self.eos_token_ids,
                batch=settings.batch,
                pad_id=self._tokenizer.pad_token_id,
                watched=self._tokens.levels,
            )
            return sampler.generate(prompts, seeds)

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
        if self._config.rollouts.backend == "trl":
            self._first = []
            ids, logps = super()._generate_single_turn(prompt_ids, *args, **kwargs)
            return ids, logps
        step, process = self.state.global_step, self.accelerator.process_index
        seeds = [
            seed_of(self._config.seed, "rollout", step, process, row)
            for row in range(len(prompt_ids))
        ]
        replies = self.sample(prompt_ids, seeds, self._config.rollouts.temperature)
        self._first = [reply.first for reply in replies]
        return [list(reply.ids) for reply in replies], None

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        gathered: Tensor = super()._calculate_rewards(*args, **kwargs)
        self._gathered = gathered
        return gathered

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        output["advantages"] = self._token_advantages(output)
        self.figures = self._round_figures()
        return output

    def _token_advantages(self, output: Mapping[str, Any]) -> Tensor:
        """Shape (rows, tokens), of this process's rows; 0 beyond a reply's end."""
        objective, gathered = self._config.objective, self._gathered
        assert gathered is not None  # rewards were calculated just now
        main, ctrl = gathered.double().T.tolist()
        advantages = batch_advantages(
            main,
            ctrl,
            group=self.num_generations,
            beta=objective.beta if objective.ctrl and objective.kind == "chrpo" else 0.0,
            scale=objective.scale,
        )
        lengths = output["completion_mask"].sum(dim=1).tolist()
        tokens, first = int(output["num_items_in_batch"]), self.accelerator.process_index
        made = torch.zeros(output["completion_ids"].shape, dtype=torch.float32)
        for row, length in enumerate(lengths):
            scored = self._rewards.scored[row]
            has_level = scored.level is not None and not scored.forced
            own = token_row(advantages[first * len(lengths) + row], length, has_level=has_level)
            if objective.control_weight is not None:
                weights = control_weights(
                    length, alpha=objective.control_weight, tokens=tokens, rollouts=len(main)
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


def choice_figures(first: Sequence[Sequence[float]]) -> dict[str, float]:
    """Of the levels' probabilities at the first token, one row per reply: ``level_mass``, their
    sum; ``choice_entropy``, the mean entropy in nats of a choice restricted to levels."""
    shares = torch.tensor(first, dtype=torch.float64)
    mass = shares.sum(dim=1)
    entropies = torch.special.entr(shares / mass[:, None].clamp(min=1e-300)).sum(dim=1)
    return {"level_mass": mass.mean().item(), "choice_entropy": entropies.mean().item()}
