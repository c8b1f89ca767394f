"""Low-rank adapters of the policy model: their settings for PEFT, and a trained one worked into its
model. Knows no stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from extracot_training.policy.training_settings import LoraSettings

ADAPTER = "adapter"


def adapter_config(lora: LoraSettings, model: Any, rows: Sequence[int] = ()) -> Any:
    """PEFT's settings: adapters on the linear layers, and single ``rows`` of the embeddings.

    Rows are trained singly, so that an adapter stays small; a tied pair of matrices stays one.
    """
    from peft import LoraConfig

    trained = {"embed_tokens": sorted(rows)} if rows else {}
    untied = model.get_output_embeddings().weight is not model.get_input_embeddings().weight
    if rows and untied:
        trained["lm_head"] = sorted(rows)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        trainable_token_indices=trained or None,
    )


def save_merged(trainer: Any, base: str, made: Path) -> None:
    """Into ``made``: the adapter with the rows it trained, made for the model ``base``, then a
    plain model with both worked in."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(made / ADAPTER, save_embedding_layers=False)
    (made / ADAPTER / "README.md").unlink(missing_ok=True)
    model.merge_and_unload().save_pretrained(made)
    trainer.processing_class.save_pretrained(made)
