"""Replay of fine-tuning rows while the choice of a level is trained.

Rollouts in policy mode train only the levels that are chosen, and the others get worse: a client
who asks for a level by name would get a worse reply than before. So a few rows of stage ``mix`` at
named levels, and native ones, join every update with their cross-entropy, by a weight. This is not
part of the paper; docs/decisions/0017-replay.md has its costs and benefits.

A share of the level rows is shown under the policy token instead, with the level in the reply and
no loss on it: a level that policy rows hardly ever taught answers worse there than by its name, and
the policy would learn to avoid it for that alone (docs/decisions/0029-chrpo-by-price.md). Knows
nothing of rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

from extracot_training.config.chrpo import ReplaySettings
from extracot_training.errors import StageError
from extracot_training.generation.rollout.sampler import seed_of
from extracot_training.policy.control_tokens import ControlTokens
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.reply_loss import IGNORED, reply_loss


class Replay:
    """Draws rows by seed, update and process, so that a resumed run draws what an uncut one does.

    Raises :class:`StageError` where no row is of a named level or native.
    """

    def __init__(
        self,
        settings: ReplaySettings,
        rows: Sequence[MixedRow],
        *,
        seed: int,
        pad_id: int,
        tokens: ControlTokens | None = None,
        policy_share: float = 0.0,
    ) -> None:
        self._rows = [row for row in rows if row.kind != "policy"]
        if not self._rows:
            raise StageError(f"{settings.rows}: no row is at a level or native")
        self._batch_size = settings.batch
        self.weight = settings.weight
        self._seed = seed
        self._pad_id = pad_id
        self._tokens = tokens
        self._policy_share = policy_share if tokens is not None else 0.0

    def drawn(self, update: int, process: int) -> list[MixedRow]:
        """The rows of one update, ``batch`` of them or all there are; of kind ``policy`` are those
        that are shown under the policy token."""
        random = Random(seed_of(self._seed, "replay", update, process))
        rows = random.sample(self._rows, min(self._batch_size, len(self._rows)))
        if not self._policy_share:
            return rows
        return [
            self._as_policy(row)
            if row.kind == "level" and random.random() < self._policy_share
            else row
            for row in rows
        ]

    def _as_policy(self, row: MixedRow) -> MixedRow:
        """The row with the policy token in the level token's place: its reply begins with the level
        in either case."""
        assert self._tokens is not None
        levels, policy = self._tokens.levels, self._tokens.policy
        at = max((n for n, id_ in enumerate(row.prompt_ids) if id_ in levels), default=None)
        if at is None or policy is None or row.reply_ids[0] not in levels:
            return row
        prompt = [*row.prompt_ids[:at], policy, *row.prompt_ids[at + 1 :]]
        return row.model_copy(update={"kind": "policy", "prompt_ids": prompt})

    def loss(self, model: Any, rows: Sequence[MixedRow], part: int, parts: int) -> Tensor:
        """Mean negative log-likelihood per reply token of ``rows``, a scalar, unweighted; of it the
        share that the rows of pass ``part`` of ``parts`` have, so that passes add up."""
        own = rows[part::parts]
        tokens = sum(len(row.reply_ids) for row in rows)
        if not own:
            return torch.zeros((), device=model.device)
        ids, mask, labels = (tensor.to(model.device) for tensor in self._batch(own))
        inputs = {"input_ids": ids, "attention_mask": mask}
        return reply_loss(model, inputs, labels).total / tokens

    def _batch(self, rows: Sequence[MixedRow]) -> tuple[Tensor, Tensor, Tensor]:
        """``input_ids``, ``attention_mask``, ``labels``: (rows, longest), padded on the right."""
        shape = (len(rows), max(row.length for row in rows))
        ids = torch.full(shape, self._pad_id)
        mask = torch.zeros(shape, dtype=torch.long)
        labels = torch.full(shape, IGNORED)
        for at, row in enumerate(rows):
            ids[at, : row.length] = torch.tensor(row.prompt_ids + row.reply_ids)
            mask[at, : row.length] = 1
            labels[at, len(row.prompt_ids) : row.length] = torch.tensor(row.reply_ids)
            if row.kind == "policy":  # the choice is not taught here
                labels[at, len(row.prompt_ids)] = IGNORED
        return ids, mask, labels
