"""A GGUF file's weights by the names that Hugging Face's folders use: float32, one at a time.

Only what differences are made from is read: files of the architecture ``llama``, whose queries and
keys are stored in llama.cpp's order of rotary pairs and are put back into the other one. Needs
gguf and numpy; knows nothing of torch, nor of where files lie.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extracot.errors import ExtracotError

_SUFFIXES = (".weight", ".bias")


class BaseError(ExtracotError):
    """The base's file can't be read as one."""


class GgufBase:
    """An opened file. Raises :class:`BaseError` for one that is no GGUF file or of another
    architecture."""

    def __init__(self, path: Path) -> None:
        import gguf

        try:
            reader = gguf.GGUFReader(path)
        except (ValueError, IndexError, KeyError) as error:
            raise BaseError(f"{path}: no GGUF file ({error})") from error
        self._tensors: dict[str, Any] = {tensor.name: tensor for tensor in reader.tensors}
        found = reader.get_field("general.architecture")
        architecture = None if found is None else found.contents()
        if architecture != "llama":
            raise BaseError(f"{path}: architecture {architecture}; only llama is read")

        def count(name: str) -> int:
            field = reader.get_field(f"llama.{name}")
            if field is None:
                raise BaseError(f"{path}: llama.{name} is missing")
            return int(field.contents())

        heads = count("attention.head_count")
        given = reader.get_field("llama.attention.head_count_kv")
        pairs = heads if given is None else int(given.contents())
        self._heads = {"q_proj": heads, "k_proj": pairs}
        self._names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, count("block_count"))

    def tensor(self, name: str) -> NDArray[np.float32] | None:
        """The tensor that Hugging Face calls ``name``, or ``None``."""
        from gguf.quants import dequantize

        found = self._tensors.get(self._names.get_name(name, _SUFFIXES) or "")
        if found is None:
            return None
        values: NDArray[np.float32] = dequantize(found.data, found.tensor_type)
        heads = next((count for part, count in self._heads.items() if f".{part}." in name), None)
        return values if heads is None else _unpaired(values, heads)


def _unpaired(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows from pairs beside each other, as llama.cpp rotates them, to the two halves of a head."""
    half = values.shape[0] // heads // 2
    return values.reshape(heads, half, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
