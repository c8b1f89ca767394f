"""Large tensors of zeros that take memory as they are used: for vLLM's cache of keys and values.

Imports torch, and not vLLM.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_LARGE = 2**24  # bytes; smaller ones may as well be cleared at once


class ZerosAsUsed(TorchFunctionMode):
    """Within it, large tensors of zero bytes on the CPU are pages that the kernel gives when used.

    `torch.zeros` writes to all of its memory: a gigabyte for the cache of a server that may never
    use a tenth of it.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace such a call of `torch.zeros`; every other call is as it was."""
        given = dict(kwargs or {})
        if func is torch.zeros and _bytes_asked(args, given) >= _LARGE:
            return torch.frombuffer(mmap.mmap(-1, args[0]), dtype=torch.int8)
        return func(*args, **given)


def _bytes_asked(args: Sequence[Any], given: Mapping[str, Any]) -> int:
    """How many bytes such a call is for; 0 where it is for something else."""
    plain = given.keys() == {"dtype", "device"} and given["dtype"] is torch.int8
    if not plain or torch.device(given["device"]).type != "cpu":
        return 0
    return args[0] if len(args) == 1 and isinstance(args[0], int) else 0
