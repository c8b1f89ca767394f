"""CPU time and memory of server processes, by what each of them is for. Linux only.

The CPU clock of a process counts all its threads to the nanosecond, those that have ended as well.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

ENGINE = "VLLM::"
"""vLLM calls its engine's processes so."""


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, without its children's; 0 for one that has ended."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # the kernel's number for that process's clock
    except OSError:
        return 0.0


def family(pid: int) -> Iterator[tuple[int, str]]:
    """A process and all that come from it: ids and names."""
    children: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = stat.read_text().partition(" (")
        except OSError:  # it has just ended
            continue
        name, _, fields = rest.rpartition(") ")
        names[int(number)] = name
        children.setdefault(int(fields.split()[1]), []).append(int(number))
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        yield one, names.get(one, "")
        waiting += children.get(one, [])


def front_and_engine(pid: int) -> tuple[list[int], list[int]]:
    """The processes of a server that handle requests, its workers included, and its engine's."""
    front: list[int] = []
    engine: list[int] = []
    for one, name in family(pid):
        (engine if name.startswith(ENGINE) else front).append(one)
    return front, engine


def resident_kib(pid: int) -> int:
    """The resident memory of a process."""
    found = re.search(r"VmRSS:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])
