"""A model's own settings (``config.json``), kept from before a trainer had it.

Trainers switch things for their work: no cache, router logits for a loss. None of it is the
model's, and some of it breaks whoever loads the model next. Knows no trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What a trainer aligns with the tokenizer, for good.
ALIGNED = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """``values`` are those of the model's text part."""

    values: Mapping[str, Any]

    @classmethod
    def of(cls, model: Any) -> ModelSettings:
        """The settings as they are now."""
        return cls(model.config.get_text_config().to_dict())

    def put_back(self, model: Any) -> None:
        """Give ``model`` these settings again, but for the tokens that it shares with a tokenizer;
        and a cache, which only training does without."""
        config = model.config.get_text_config()
        for name, now in config.to_dict().items():
            if name in self.values and name not in ALIGNED and now != self.values[name]:
                setattr(config, name, self.values[name])
        config.use_cache = True
