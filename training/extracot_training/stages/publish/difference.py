"""The published folder as a difference from a base: made, merged as a server does, and measured.

The merging is the server's own code, in a process of its own that is met over files only. Knows how
to compare two models on rows; knows no card.
"""

from __future__ import annotations

import gzip
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from extracot.difference import Difference
from extracot_training.config.publish import PublishConfig
from extracot_training.errors import StageError
from extracot_training.pipeline.records import read_rows
from extracot_training.pipeline.settings import DifferenceSettings
from extracot_training.policy.difference import base_file, tensor_errors, write_difference
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.model_folder import INDEX, put_model, say_dtype
from extracot_training.policy.pretrained import load_causal_lm

WHOLE, MERGED = "whole", "merged"
_MERGING = "extracot_server.model_registry.merging"
_PACKED_FROM = 256 * 1024
"""Bytes of a text file (a tokenizer's) from which it is kept packed."""


def put_difference(
    files: Mapping[str, Path], folder: Path, settings: DifferenceSettings, dtype: Any
) -> None:
    """Fill ``folder`` with everything of the model but its weights, and with the difference. The
    model itself is left in its subfolder :data:`WHOLE`, to be compared and removed."""
    if importlib.util.find_spec("extracot_server") is None:
        raise StageError("difference needs the package extracot_server, which merges it")
    whole = folder / WHOLE
    whole.mkdir()
    put_model(files, whole, dtype="keep")
    write_difference(whole, folder, settings, dtype)
    for path in sorted(whole.iterdir()):
        if path.suffix == ".safetensors" or path.name == INDEX:
            continue
        if path.stat().st_size < _PACKED_FROM:
            shutil.copyfile(path, folder / path.name)
        else:
            packed = gzip.compress(path.read_bytes(), mtime=0)
            (folder / f"{path.name}.gz").write_bytes(packed)
    if dtype != "keep":
        say_dtype(folder, dtype)


def merge(folder: Path, settings: DifferenceSettings) -> Path:
    """The model as a server merges it, in the subfolder :data:`MERGED`; the difference gets its
    weights' checksum. Raises :class:`StageError` where it has another one already."""
    target = folder / MERGED
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", _MERGING, str(base_file(settings.base)), str(folder)]
    done = subprocess.run([*command, str(target)], capture_output=True, text=True)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise StageError(f"merging the difference: {said[:300]}")
    found = done.stdout.split()[-1]
    difference = Difference.load(folder)
    if difference.weights_sha256 not in (None, found):
        raise StageError(
            f"merging the difference: weights of sha256 {found[:12]}…, "
            f"expected {str(difference.weights_sha256)[:12]}…"
        )
    difference.model_copy(update={"weights_sha256": found}).save(folder)
    return target


def measure(folder: Path, config: PublishConfig, settings: DifferenceSettings) -> dict[str, Any]:
    """Sizes, and what was lost: per tensor, and on rows where the settings name some."""
    kept = [path for path in folder.iterdir() if path.is_file()]
    lost = tensor_errors(folder / WHOLE, folder / MERGED, settings.base)
    worst = sorted(lost, key=lambda name: -lost[name])[:5]
    return {
        "bytes": sum(path.stat().st_size for path in kept),
        "merged_bytes": sum(path.stat().st_size for path in (folder / MERGED).iterdir()),
        "changed_tensors": len(lost),
        "lost": {
            "mean": sum(lost.values()) / len(lost) if lost else 0.0,
            "largest": {name: lost[name] for name in worst},
        },
        "rows": None if config.rows is None else _on_rows(folder, config),
    }


def _on_rows(folder: Path, config: PublishConfig) -> dict[str, Any]:
    """Mean loss of a reply's token before and after, and how far the distributions are apart."""
    assert config.rows is not None
    rows = list(islice(read_rows(config.rows, MixedRow), config.rows_limit))
    before = load_causal_lm(str(folder / WHOLE))
    after = load_causal_lm(str(folder / MERGED))
    return compare_on([(row.prompt_ids, row.reply_ids) for row in rows], before, after)


def compare_on(
    rows: Sequence[tuple[Sequence[int], Sequence[int]]], before: Any, after: Any
) -> dict[str, Any]:
    """``loss`` of each model in nats per token of the replies, ``kl`` of ``after`` from ``before``
    likewise, ``same`` the share of tokens where both find the same one likeliest."""
    import torch

    sums = {"before": 0.0, "after": 0.0, "kl": 0.0, "same": 0.0}
    tokens = 0
    for prompt, reply in rows:
        ids = torch.tensor([[*prompt, *reply]])
        wanted = ids[0, len(prompt) :]
        with torch.inference_mode():
            one, two = (
                model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
                for model in (before, after)
            )
        for name, found in (("before", one), ("after", two)):
            sums[name] -= float(found.gather(1, wanted[:, None]).sum())
        sums["kl"] += float((one.exp() * (one - two)).sum())
        sums["same"] += int((one.argmax(1) == two.argmax(1)).sum())
        tokens += len(reply)
    mean = {name: value / max(1, tokens) for name, value in sums.items()}
    return {
        "rows": len(rows),
        "tokens": tokens,
        "loss": {"before": mean["before"], "after": mean["after"]},
        "kl": mean["kl"],
        "same": mean["same"],
    }
