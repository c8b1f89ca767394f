"""Merges a difference folder with its base, a process of its own: tensor by tensor, exactly.

``python -m extracot_server.model_registry.merging BASE FOLDER TARGET`` fills the new folder TARGET
and prints how far it is (``done total``), then the sha256 of the weights it wrote. What has to come
out is defined in :mod:`extracot.difference`; element by element in numpy it is the same everywhere,
where a product of matrices is not. Holds one tensor at a time. Knows nothing of caches.
"""

from __future__ import annotations

import argparse
import errno
import gzip
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from extracot.difference import (
    CHANGES_FILENAME,
    DIFFERENCE_FILENAME,
    WEIGHTS_FILENAME,
    Difference,
    DifferenceError,
    Dtype,
    Form,
    Step,
    part,
)
from extracot_server.model_registry.gguf_base import BaseError, GgufBase

Array = NDArray[Any]
Parts = Callable[[str], Array]
_CODES: dict[Dtype, str] = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_BLOCK = 1 << 16
"""Elements at a time: little enough to stay in a core's cache."""
_WRITTEN = 1 << 20
_PACKED = ".gz"


def merge(base: GgufBase, folder: Path, target: Path, told: Callable[[int, int], None]) -> str:
    """Fill the new folder ``target``; the weights' sha256. ``told`` gets tensors done and all.

    Raises :class:`DifferenceError`, :class:`BaseError` and ``OSError``.
    """
    difference = Difference.load(folder)
    target.mkdir()
    _copy_files(folder, target)
    digest = hashlib.sha256()
    names = sorted(difference.tensors)
    try:
        with (
            safe_open(folder / CHANGES_FILENAME, framework="np") as changes,
            (target / WEIGHTS_FILENAME).open("wb") as out,
        ):

            def put(data: bytes) -> None:
                digest.update(data)
                out.write(data)

            put(_header(difference))
            for done, name in enumerate(names, 1):
                values = _merged(base, difference, name, changes.get_tensor)
                flat = values.reshape(-1)
                for start in range(0, flat.size, _WRITTEN):
                    block = _rounded(flat[start : start + _WRITTEN], difference.dtype)
                    put(block.tobytes())
                told(done, len(names))
    except SafetensorError as error:
        raise DifferenceError(f"{folder / CHANGES_FILENAME}: {error}") from error
    return digest.hexdigest()


def _copy_files(folder: Path, target: Path) -> None:
    """Everything but the difference; what was packed to be small is unpacked."""
    for path in sorted(folder.iterdir()):
        if path.name in (DIFFERENCE_FILENAME, CHANGES_FILENAME) or not path.is_file():
            continue
        if path.suffix == _PACKED:
            with gzip.open(path) as packed, (target / path.stem).open("wb") as out:
                shutil.copyfileobj(packed, out)
        else:
            shutil.copyfile(path, target / path.name)


def _header(difference: Difference) -> bytes:
    """The beginning of a safetensors file: a length, then names, types, shapes and places."""
    code, size = _CODES[difference.dtype], np.dtype(_storage(difference.dtype)).itemsize
    told: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name in sorted(difference.tensors):
        shape = difference.tensors[name]
        end = place + size * int(np.prod(shape, dtype=np.int64))
        told[name] = {"dtype": code, "shape": shape, "data_offsets": [place, end]}
        place = end
    text = json.dumps(told, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _merged(base: GgufBase, difference: Difference, name: str, parts: Parts) -> NDArray[np.float32]:
    steps, shape = difference.steps.get(name, []), tuple(difference.tensors[name])
    values = _begun(None if steps and steps[0].form == "whole" else base.tensor(name), name, shape)
    if values is None:
        if not steps:
            raise DifferenceError(f"{name}: neither the base nor the difference has it")
        values = np.zeros(shape, np.float32)
    for step in steps:

        def named(what: str, form: Form = step.form) -> Array:
            return parts(part(name, form, what))

        try:
            _APPLIED[step.form](values, step, named)
        except (ValueError, IndexError) as error:
            raise DifferenceError(f"{name}: {step.form} does not fit ({error})") from error
    return values


def _begun(
    found: NDArray[np.float32] | None, name: str, shape: tuple[int, ...]
) -> NDArray[np.float32] | None:
    """The base's tensor, to be changed, with zeros for rows that it lacks."""
    if found is None:
        return None
    if found.shape == shape:
        return np.require(found, requirements=["C", "W"])
    if found.shape[1:] != shape[1:] or found.shape[0] > shape[0]:
        raise DifferenceError(f"{name}: {found.shape} in the base, {shape} in the checkpoint")
    values = np.zeros(shape, np.float32)
    values[: found.shape[0]] = found
    return values


def _whole(values: NDArray[np.float32], step: Step, parts: Parts) -> None:
    values[...] = parts("values")


def _rows(values: NDArray[np.float32], step: Step, parts: Parts) -> None:
    values[parts("index")] = parts("values")


def _low_rank(values: NDArray[np.float32], step: Step, parts: Parts) -> None:
    left, right = parts("left").astype(np.float32), parts("right").astype(np.float32)
    height = max(1, _BLOCK // values.shape[1])
    for start in range(0, values.shape[0], height):
        block = values[start : start + height]
        total, product = np.zeros_like(block), np.empty_like(block)
        for column, row in zip(left[start : start + height].T, right, strict=True):
            np.multiply(column[:, None], row, out=product)
            total += product
        block += total


def _bits(values: NDArray[np.float32], step: Step, parts: Parts) -> None:
    assert step.bits is not None and step.group is not None
    packed, scale = parts("packed"), parts("scale").astype(np.float32)
    flat = values.reshape(-1)
    size = step.group * max(1, _BLOCK // step.group)
    if size * step.bits % 8:
        size *= 8
    for start in range(0, flat.size, size):
        block = flat[start : start + size]
        first = start * step.bits // 8
        held = packed[first : first + -(-block.size * step.bits // 8)]
        ones = np.unpackbits(held, count=block.size * step.bits, bitorder="little")
        numbers = np.zeros(block.size, np.int16)
        for place, bit in enumerate(ones.reshape(block.size, step.bits).T):
            numbers += bit.astype(np.int16) << place
        numbers -= 1 << (step.bits - 1)
        scales = scale[start // step.group : -(-(start + block.size) // step.group)]
        block += numbers.astype(np.float32) * np.repeat(scales, step.group)[: block.size]


_APPLIED: Mapping[str, Callable[[NDArray[np.float32], Step, Parts], None]] = {
    "whole": _whole, "rows": _rows, "low_rank": _low_rank, "bits": _bits
}  # fmt: skip


def _storage(dtype: Dtype) -> str:
    return {"bfloat16": "<u2", "float16": "<f2", "float32": "<f4"}[dtype]


def _rounded(values: NDArray[np.float32], dtype: Dtype) -> Array:
    """To the nearest, and to even. numpy has no bfloat16: it is the upper half of a float32."""
    if dtype != "bfloat16":
        return np.ascontiguousarray(values, dtype=_storage(dtype))
    whole = np.ascontiguousarray(values).view(np.uint32)
    return ((whole + 0x7FFF + ((whole >> 16) & 1)) >> 16).astype(_storage(dtype))


def main(argv: Sequence[str] | None = None) -> int:
    """Merge, and print progress and the hash. Every expected failure is one line."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    for name in ("base", "folder", "target"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args(argv)
    try:
        base = GgufBase(arguments.base)
        digest = merge(
            base,
            arguments.folder,
            arguments.target,
            lambda done, total: print(done, total, flush=True),
        )
    except OSError as error:
        # In words that whoever started this can tell from other errors.
        full = error.errno == errno.ENOSPC
        print("No space left on device" if full else error, file=sys.stderr)
        return 1
    except (DifferenceError, BaseError) as error:
        print(error, file=sys.stderr)
        return 1
    print(digest, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
