"""Where a forked process computes: the cores and threads that vLLM names in OpenMP's variables.

OpenMP reads them when it is loaded, and in a fork that was long ago. No vLLM import.
"""

from __future__ import annotations

import contextlib
import os
import sys


def use_named_cores() -> None:
    """Bind this thread, and those that it starts, to what the variables say."""
    with contextlib.suppress(ValueError):  # lists of vLLM's; other forms are OpenMP's own
        if (cores := os.environ.get("GOMP_CPU_AFFINITY")) is not None:
            os.sched_setaffinity(0, {int(core) for core in cores.split()})
    with contextlib.suppress(ValueError):
        if (threads := os.environ.get("OMP_NUM_THREADS")) is not None:
            sys.modules["torch"].set_num_threads(int(threads))
