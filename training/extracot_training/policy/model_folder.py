"""A model folder's files, checked and put into the folder to publish: safetensors, nothing else.

An adapter's folder is merged into its base. Knows Hugging Face's file names; knows no card.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extracot.difference import DIFFERENCE_FILENAME
from extracot_training.errors import StageError
from extracot_training.pipeline.stage import Manifest
from extracot_training.policy.pretrained import (
    PretrainedError,
    first_line,
    load_tokenizer,
    open_causal_lm,
)
from extracot_training.policy.prompt_settings import RENDERER_FILENAME

ADAPTER_CONFIG = "adapter_config.json"
INDEX = "model.safetensors.index.json"
GENERATION = "generation_config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
)
OTHER_FILES = ("config.json", GENERATION, INDEX, ADAPTER_CONFIG, RENDERER_FILENAME)


class ModelFolderError(StageError):
    """The folder holds no model that can be published."""


def model_files(folder: Path) -> dict[str, Path]:
    """Role -> file, for everything of ``folder`` that is published or decides what is.

    Raises :class:`ModelFolderError`: no such folder, a stage that has not finished there, no
    configuration, weights in another format, or shards missing.
    """
    if not folder.is_dir():
        raise ModelFolderError(f"{folder}: no such folder")
    if (folder / DIFFERENCE_FILENAME).is_file():
        raise ModelFolderError(f"{folder}: a difference; want the folder that it was made from")
    manifest = Manifest.load(folder)
    if manifest is not None and manifest.finished is None:
        raise ModelFolderError(f"{folder}: stage {manifest.stage!r} has not finished there")
    is_adapter = (folder / ADAPTER_CONFIG).is_file()
    if not is_adapter and not (folder / "config.json").is_file():
        raise ModelFolderError(f"{folder}: no config.json; want a model folder")
    weights = sorted(folder.glob("adapter_model.safetensors" if is_adapter else "*.safetensors"))
    if not weights:
        others = [path.name for path in (*folder.glob("*.bin"), *folder.glob("*.pt"))]
        found = f", only {', '.join(sorted(others))}" if others else ""
        raise ModelFolderError(f"{folder}: no .safetensors weights{found}")
    if (folder / INDEX).is_file():
        named = set(_read(folder / INDEX).get("weight_map", {}).values())
        if missing := sorted(named - {path.name for path in weights}):
            raise ModelFolderError(f"{folder}: {INDEX} names {missing[0]}, which is not there")
    names = [*(path.name for path in weights), *TOKENIZER_FILES, *OTHER_FILES]
    return {f"model/{name}": folder / name for name in names if (folder / name).is_file()}


def weights_hash(inputs: Mapping[str, str]) -> str:
    """``sha256:<hex>`` over the hashes of the weight files, of a manifest's ``inputs``."""
    listed = sorted((role, sha) for role, sha in inputs.items() if role.endswith(".safetensors"))
    return f"sha256:{hashlib.sha256(json.dumps(listed).encode()).hexdigest()}"


def put_model(files: Mapping[str, Path], target: Path, *, dtype: str) -> None:
    """Copy the model, or merge its adapter, into ``target``. Raises :class:`ModelFolderError` for
    weights that can't be read or an adapter that does not fit its base."""
    folder = next(iter(files.values())).parent
    is_adapter = (folder / ADAPTER_CONFIG).is_file()
    if is_adapter:
        _merge(folder, target)
    for path in files.values():
        if path.suffix != ".safetensors" and path.name != ADAPTER_CONFIG:
            shutil.copyfile(path, target / path.name)
        elif not is_adapter:
            _put_weights(path, target / path.name, dtype)
    if is_adapter and dtype != "keep":
        for path in sorted(target.glob("*.safetensors")):
            _put_weights(path, path, dtype)
    if dtype != "keep":
        say_dtype(target, dtype)
    if not (target / GENERATION).is_file():
        # The least an engine needs: which tokens end a reply.
        config = _read(target / "config.json")
        ends = ("bos_token_id", "eos_token_id")
        _write(target / GENERATION, {name: config[name] for name in ends if name in config})


def _put_weights(source: Path, target: Path, dtype: str) -> None:
    """Copy one file, casting its floating-point tensors; every header is read in any case."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file, save_file

    try:
        with safe_open(source, framework="pt") as opened:
            metadata = opened.metadata() or {"format": "pt"}
        if dtype == "keep":
            shutil.copyfile(source, target)
            return
        import torch

        wanted = getattr(torch, dtype)
        tensors = {
            name: (tensor.to(wanted) if tensor.is_floating_point() else tensor).contiguous()
            for name, tensor in load_file(source).items()
        }
    except SafetensorError as error:
        raise ModelFolderError(f"{source}: not whole safetensors weights ({error})") from error
    save_file(tensors, target, metadata=metadata)


def _merge(folder: Path, target: Path) -> None:
    """The base with the adapter's changes added into its weights."""
    from peft import PeftModel

    base = str(_read(folder / ADAPTER_CONFIG).get("base_model_name_or_path") or "")
    if not base:
        raise ModelFolderError(f"{folder / ADAPTER_CONFIG}: no base_model_name_or_path")
    try:
        model = open_causal_lm(base, dtype="auto")
        rows = len(load_tokenizer(str(folder)))
        if rows > model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(rows, mean_resizing=False)
        merged = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    except (PretrainedError, OSError, ValueError, RuntimeError) as error:
        raise ModelFolderError(
            f"{folder}: its adapter does not go onto {base!r}: {first_line(error)}"
        ) from error
    merged.save_pretrained(target, safe_serialization=True)


def say_dtype(target: Path, dtype: str) -> None:
    """Have a folder's configuration name the type that its weights were cast to."""
    config = _read(target / "config.json")
    config.pop("torch_dtype", None)
    _write(target / "config.json", {**config, "dtype": dtype})
    if (target / INDEX).is_file():
        index = _read(target / INDEX)
        index.get("metadata", {}).pop("total_size", None)
        _write(target / INDEX, index)


def _write(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFolderError(f"{path}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ModelFolderError(f"{path}: not a JSON object")
    return found
