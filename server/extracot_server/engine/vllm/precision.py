"""Which number format a model runs in on a CPU: bfloat16 where the processor computes in it.

bfloat16 halves what is read from memory for each token. A processor without instructions for it is
several times slower in it than in float32, and a model whose weights stay in the caches gains
nothing, so those run in float32. Knows nothing of vLLM.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Precision = Literal["bfloat16", "float32"]

_SMALL = 2**26  # bytes of weights


def precision_on_cpu(model: Path, *, bfloat16: bool) -> Precision:
    """The format for a model's folder (or for a hub id, whose size is not known yet).

    ``bfloat16`` says whether the processor computes in it.
    """
    if not bfloat16:
        return "float32"
    weights = [file.stat().st_size for file in model.glob("*.safetensors")]
    return "float32" if weights and sum(weights) < _SMALL else "bfloat16"
