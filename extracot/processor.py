"""What this machine's processor computes in, as Linux tells. Servers and trainings choose their
number format by it."""

from __future__ import annotations

import re
from pathlib import Path

# Names that Linux has for instructions for bfloat16: x86's AVX-512 and AMX, then Arm's.
_INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_FLAGS = re.compile(r"^(?:flags|Features)\s*:(.*)$", re.MULTILINE)


def computes_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether every core has instructions for bfloat16, as Linux tells; ``False`` if it doesn't."""
    try:
        told = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    cores = [set(flags.split()) for flags in _FLAGS.findall(told)]
    return bool(cores) and all(flags & _INSTRUCTIONS for flags in cores)
