"""A checkpoint's weights as their difference from a bundled base: two files in place of many.

Whole rows and vectors where little changed, else low-rank factors in float16 or numbers of a few
bits. What the files mean is defined in :mod:`extracot.difference`; that module's reader is the
server's. Knows no stage and no card.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from extracot.difference import (
    CHANGES_FILENAME,
    BaseIdentity,
    Difference,
    Dtype,
    Step,
    part,
)
from extracot.files import sha256_hex
from extracot_training.errors import TrainingError
from extracot_training.pipeline.settings import DifferenceSettings
from extracot_training.policy.pretrained import BUNDLES, located, open_causal_lm

Array = NDArray[Any]
Floats = NDArray[np.float32]
_FEW = 64
"""Up to one row in so many is told whole."""
_TRIED = tuple(1 - 0.05 * step for step in range(9))
"""Scales tried, as shares of the one at which a group's largest value is just held."""
_PACKED_AT_A_TIME = 1 << 20


class DifferenceFault(TrainingError):
    """The checkpoint can't be told as a difference from this base."""


def base_file(name: str) -> Path:
    """The base's file. Raises :class:`PretrainedError` where its package is not installed."""
    folder, extra = located(name)
    return (Path(folder) / str(extra["gguf_file"])).resolve()


def write_difference(
    whole: Path, folder: Path, settings: DifferenceSettings, dtype: Dtype | Literal["keep"]
) -> Difference:
    """Put both files into ``folder``; those of ``whole``, a model's, are read tensor by tensor.

    ``dtype`` is what the merged weights will be. Raises :class:`DifferenceFault` for weights that
    are no floats or not finite, and for a checkpoint without one tensor in common with the base.
    """
    import torch
    from safetensors.numpy import save_file

    bundle, file = BUNDLES[settings.base], base_file(settings.base)
    base = open_causal_lm(settings.base, dtype=torch.float32).state_dict()
    shapes: dict[str, list[int]] = {}
    steps: dict[str, list[Step]] = {}
    parts: dict[str, Array] = {}
    known = 0
    for name, tensor in _tensors(whole):
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise DifferenceFault(f"{whole}: {name} holds something else than finite floats")
        if dtype == "keep":
            dtype = cast(Dtype, str(tensor.dtype).removeprefix("torch."))
        shapes[name] = list(tensor.shape)
        known += name in base
        told = _steps(name, tensor, base.get(name), settings, getattr(torch, dtype))
        if told:
            steps[name] = [step for step, _ in told]
            for step, values in told:
                parts |= {part(name, step.form, what): found for what, found in values.items()}
    if not known or dtype == "keep":
        raise DifferenceFault(f"{whole}: no tensor in common with {settings.base}")
    save_file({name: parts[name] for name in sorted(parts)}, folder / CHANGES_FILENAME)
    difference = Difference(
        base=BaseIdentity(
            name=settings.base.removeprefix("bundled:"),
            requirement=f"{bundle.requirement}=={version(bundle.requirement)}",
            file=file.name,
            sha256=sha256_hex(file),
        ),
        dtype=dtype,
        tensors=shapes,
        steps=steps,
        changes_sha256=sha256_hex(folder / CHANGES_FILENAME),
    )
    difference.save(folder)
    return difference


def tensor_errors(whole: Path, merged: Path, base: str) -> dict[str, float]:
    """For each tensor that changed, how much of its change was lost: the norm of what is wrong in
    ``merged`` over that of what was learnt; 0 is exact. Rounding to the merged type counts."""
    import torch

    before = open_causal_lm(base, dtype=torch.float32).state_dict()
    got = dict(_tensors(merged))
    lost: dict[str, float] = {}
    for name, tensor in _tensors(whole):
        wanted, origin = tensor.float(), before.get(name)
        begun = torch.zeros_like(wanted)
        if origin is not None:
            begun[: origin.shape[0]] = origin
        learnt = float((wanted - begun).norm())
        if learnt > 0 and not torch.equal(tensor.to(got[name].dtype), begun.to(got[name].dtype)):
            lost[name] = float((got[name].float() - wanted).norm()) / learnt
    return lost


def _tensors(folder: Path) -> Iterator[tuple[str, Any]]:
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as opened:
            for name in sorted(opened.keys()):
                yield name, opened.get_tensor(name)


def _steps(
    name: str, tensor: Any, origin: Any, settings: DifferenceSettings, dtype: Any
) -> list[tuple[Step, dict[str, Array]]]:
    """What is done to the base's tensor, in order; nothing where it rounds to the same."""
    import torch

    wanted = tensor.float()
    if origin is None or wanted.dim() != 2 or origin.shape[1:] != wanted.shape[1:]:
        if origin is not None and torch.equal(tensor.to(dtype), origin.to(dtype)):
            return []
        return [(Step(form="whole"), {"values": wanted.numpy()})]
    if origin.shape[0] > wanted.shape[0]:
        raise DifferenceFault(f"{name}: fewer rows than in {settings.base}")
    begun = torch.zeros_like(wanted)
    begun[: origin.shape[0]] = origin
    differs = (wanted.to(dtype) != begun.to(dtype)).any(dim=1)
    differs[origin.shape[0] :] = True
    told: list[tuple[Step, dict[str, Array]]] = []
    if int(differs[: origin.shape[0]].sum()) * _FEW > origin.shape[0]:
        change = wanted - begun
        change[origin.shape[0] :] = 0  # new rows are told whole
        told.append(_matrix(change, settings))
        differs[: origin.shape[0]] = False
    index = differs.nonzero()[:, 0]
    if len(index):
        rows = {"index": index.numpy().astype(np.int64), "values": wanted[index].numpy()}
        told.append((Step(form="rows"), rows))
    return told


def _matrix(change: Any, settings: DifferenceSettings) -> tuple[Step, dict[str, Array]]:
    if settings.form == "low_rank":
        return Step(form="low_rank"), low_rank(change, settings.rank)
    step = Step(form="bits", bits=settings.bits, group=settings.group)
    return step, few_bits(change.numpy(), settings.bits, settings.group)


def low_rank(change: Any, rank: int) -> dict[str, Array]:
    """The nearest product of two matrices of this rank (Eckart and Young), in float16."""
    import torch

    left, sizes, right = torch.linalg.svd(change, full_matrices=False)
    root = sizes[:rank].sqrt()
    return {
        "left": (left[:, :rank] * root).to(torch.float16).contiguous().numpy(),
        "right": (root[:, None] * right[:rank]).to(torch.float16).contiguous().numpy(),
    }


def few_bits(change: Floats, bits: int, group: int) -> dict[str, Array]:
    """Each value as a number of ``bits`` bits times its group's scale, of which some are tried:
    the one with the least squared error is taken."""
    flat = change.reshape(-1)
    groups = -(-flat.size // group)
    padded = np.zeros(groups * group, np.float32)
    padded[: flat.size] = flat
    table = padded.reshape(groups, group)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    largest = np.abs(table).max(axis=1)
    best = np.full(groups, np.inf, np.float32)
    scale = np.zeros(groups, np.float16)
    numbers = np.zeros(table.shape, np.int16)
    for share in _TRIED:
        tried = (share * largest / high).astype(np.float16)
        wide = tried.astype(np.float32)[:, None]
        counted = np.rint(np.divide(table, wide, out=np.zeros_like(table), where=wide > 0))
        counted = np.clip(counted, low, high)
        wrong = np.square(table - counted * wide).sum(axis=1)
        better = wrong < best
        best[better], scale[better] = wrong[better], tried[better]
        numbers[better] = counted[better]
    return {"packed": _packed(numbers.reshape(-1)[: flat.size] - low, bits), "scale": scale}


def _packed(numbers: NDArray[np.int16], bits: int) -> NDArray[np.uint8]:
    """``bits`` bits of each number, lowest first, without gaps."""
    places = np.arange(bits)
    blocks = [
        np.packbits(
            ((numbers[start : start + _PACKED_AT_A_TIME, None] >> places) & 1).astype(np.uint8),
            bitorder="little",
        )
        for start in range(0, numbers.size, _PACKED_AT_A_TIME)
    ]
    return np.concatenate(blocks)
