"""A worker inside its engine process: when, where it computes, and its cache. The last on vLLM."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from benchmarks.processes import family
from extracot_server.engine.vllm import fork_server
from tests.server.engine.running import engine_process
from tests.server.live import Live, user

SIZE = 2**28


def resident() -> int:
    """Bytes of this process that are in memory."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmRSS:\s*(\d+)", status)[0]) * 1024


@pytest.mark.filterwarnings("default")
def test_zeros_take_memory_as_they_are_used() -> None:
    torch = pytest.importorskip("torch")
    from extracot_server.engine.vllm.zeros import ZerosAsUsed

    before = resident()
    with ZerosAsUsed():
        cache = torch.zeros(SIZE, dtype=torch.int8, device=torch.device("cpu"))
    assert resident() - before < SIZE / 2
    cache.view(torch.float32)[: SIZE // 8] = 1.5
    assert resident() - before > SIZE / 4  # half of it is used by now
    assert cache.view(torch.float32).sum() == 1.5 * SIZE / 8
    assert cache.shape == (SIZE,) and cache.data_ptr() % 64 == 0


@pytest.mark.filterwarnings("default")
def test_other_tensors_are_made_as_ever() -> None:
    torch = pytest.importorskip("torch")
    from extracot_server.engine.vllm.zeros import ZerosAsUsed

    with ZerosAsUsed():
        for shape in ((3, 4), (SIZE,)):
            assert torch.zeros(shape, device="meta").shape == shape
        small = torch.zeros(8, dtype=torch.int8, device="cpu")
        plain = torch.zeros(2, 3)
        ones = torch.ones(4)
    assert small.tolist() == [0] * 8 and plain.dtype is torch.float32 and ones.sum() == 4


@pytest.mark.parametrize(
    ("given", "one"),
    [
        ({}, True),
        ({"tensor_parallel_size": 1, "nnodes": 1}, True),
        ({"tensor_parallel_size": 2}, False),
        ({"pipeline_parallel_size": 2}, False),
        ({"prefill_context_parallel_size": 2}, False),
        ({"data_parallel_size": 2}, False),
        ({"nnodes": 2}, False),
    ],
)
def test_a_model_over_several_processes_keeps_them(given: dict[str, int], one: bool) -> None:
    assert fork_server._one_worker(given) is one


@pytest.mark.vllm
@pytest.mark.filterwarnings("default")
def test_an_engine_on_a_cpu_is_one_process(cap_vllm: Live) -> None:
    cap_vllm.chat(messages=user("Hello."), max_tokens=2)
    number = engine_process(cap_vllm.engine)
    assert [process for process, _ in family(number)] == [number]
    # vLLM keeps a core for other work where there are several: what computes is bound to the rest.
    allowed = os.sched_getaffinity(0)
    assert len(os.sched_getaffinity(number)) < len(allowed) or len(allowed) == 1
