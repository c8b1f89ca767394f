"""Joins frozen layers and the file of their states: what a batch goes on from."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extracot_training.config.sft import SftConfig
from extracot_training.pipeline.checkpoints import CHECKPOINTS
from extracot_training.policy.frozen_layers import FrozenLayers
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.precision import settled
from extracot_training.policy.state_cache import StateCache, key_of

GB = 1e9


class KnownStates:
    """States at the border of ``frozen`` layers, from ``cache`` where it has them."""

    def __init__(self, frozen: FrozenLayers, cache: StateCache | None = None) -> None:
        self._frozen = frozen
        self._cache = cache

    @contextmanager
    def of(self, model: Any, inputs: Mapping[str, Tensor]) -> Iterator[None]:
        """A pass of ``model`` over ``inputs`` (padded on the right) skips its frozen layers."""
        with self._frozen.going_on_from(self.states(model, inputs)):
            yield

    def states(self, model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """(rows, length, width) in bfloat16, zeros at padding. What was not known is kept."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        if self._cache is None:
            return self._frozen.below(model, {"input_ids": ids, "attention_mask": mask})
        lengths = mask.sum(dim=1).tolist()
        made = ids.new_zeros((*ids.shape, self._frozen.width), dtype=torch.bfloat16)
        missing = []
        for row, length in enumerate(lengths):
            known = self._cache.read(ids[row, :length])
            if known is None:
                missing.append(row)
            else:
                made[row, :length] = known
        if missing:
            longest = max(lengths[row] for row in missing)
            wanted = {
                "input_ids": ids[missing, :longest],
                "attention_mask": mask[missing, :longest],
            }
            found = self._frozen.below(model, wanted)
            for row, states in zip(missing, found, strict=True):
                length = lengths[row]
                made[row, :length] = states[:length]
                self._cache.write(ids[row, :length], states[:length])
        return made

    def flush(self) -> None:
        """See :meth:`StateCache.flush`."""
        if self._cache is not None:
            self._cache.flush()


def known_states(
    config: SftConfig, folder: Path, rows: Sequence[MixedRow], model: Any
) -> KnownStates | None:
    """As the settings say, ``None`` where nothing is frozen; says what the file has room for."""
    if not config.freeze_layers:
        return None
    frozen = FrozenLayers(model, config.freeze_layers)
    asked = config.cache_states
    if asked is None:
        return KnownStates(frozen)
    cache = StateCache(
        asked.folder or folder / CHECKPOINTS / "states",
        (row.prompt_ids + row.reply_ids for row in rows),
        width=frozen.width,
        limit=asked.gigabytes * GB,
        key=key_of(frozen.parameters, config.freeze_layers, settled(config)),
    )
    print(
        f"cache_states: {cache.bytes / GB:.2f} GB for {cache.rows} of {cache.distinct} distinct "
        f"rows ({cache.known} are there); the others are computed each time",
        file=sys.stderr,
        flush=True,
    )
    return KnownStates(frozen, cache)
