"""Low-rank adapters of the policy model: their settings for PEFT, and a trained one worked into its
model. Knows the names that architectures give their layers; knows no stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from extracot_training.errors import ConfigError
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.policy.training_settings import USUAL_TARGETS, LoraSettings

ADAPTER = "adapter"
EVERY = "all-linear"


def adapter_config(
    lora: LoraSettings, model: Any, rows: Sequence[int] = (), *, above: int = 0
) -> Any:
    """PEFT's settings: adapters on the linear layers, and single ``rows`` of the embeddings. The
    lowest layers, so many as are not ``above``, get none where their linear layers are named.

    Rows are trained singly, so that an adapter stays small; a tied pair of matrices stays one.
    Raises :class:`ConfigError` for targets that the model does not have.
    """
    from peft import LoraConfig

    trained: dict[str, list[int]] = {}
    if rows:
        inner, outer = model.get_input_embeddings(), model.get_output_embeddings()
        trained[_name_of(model, inner)] = sorted(rows)
        if outer is not None and outer.weight is not inner.weight:
            trained[_name_of(model, outer)] = sorted(rows)
    targets = _targets(lora, model)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        fan_in_fan_out=_transposed(model, targets),
        trainable_token_indices=trained or None,
        layers_to_transform=_above(model, above) if above and targets != EVERY else None,
    )


def _targets(lora: LoraSettings, model: Any) -> list[str] | str:
    """The layers that are adapted: those that were named, or the usual ones where there are any,
    or else all linear layers but the last."""
    have = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if lora.targets is None:
        return [name for name in USUAL_TARGETS if name in have] or EVERY
    named = lora.targets
    if len(named) > 1 or EVERY not in named:
        if missing := [name for name in named if name.rpartition(".")[2] not in have]:
            raise ConfigError(
                f"setting 'lora.targets': this model has no layer {missing[0]!r}; leave targets "
                "out, or name some of its own",
                key="lora.targets",
            )
        return list(named)
    return EVERY


def _above(model: Any, count: int) -> list[int]:
    return list(range(count, int(model.config.get_text_config().num_hidden_layers)))


def _transposed(model: Any, targets: Sequence[str]) -> bool:
    """Whether the layers hold their weights as (in, out), as GPT-2's do."""
    from transformers.pytorch_utils import Conv1D

    return any(
        isinstance(module, Conv1D) and (targets == EVERY or str(name).rpartition(".")[2] in targets)
        for name, module in model.named_modules()
    )


def _name_of(model: Any, module: Any) -> str:
    """The last part of a module's name, by which PEFT finds it: ``embed_tokens``, ``wte``."""
    return next(str(n).rpartition(".")[2] for n, one in model.named_modules() if one is module)


def save_merged(trainer: Any, prompt: PromptSettings, base: str, made: Path) -> None:
    """As :func:`write_merged`, of the model that was trained."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    write_merged(model, trainer.processing_class, prompt, base, made)


def write_merged(model: Any, tokenizer: Any, prompt: PromptSettings, base: str, made: Path) -> None:
    """Into ``made``: the adapter with the rows it trained, made for the model ``base`` and with all
    that publishing it takes, then a plain model with both worked in."""
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(made / ADAPTER, save_embedding_layers=False)
    (made / ADAPTER / "README.md").unlink(missing_ok=True)
    tokenizer.save_pretrained(made / ADAPTER)
    prompt.save(made / ADAPTER)
    model.merge_and_unload().save_pretrained(made)
    tokenizer.save_pretrained(made)
