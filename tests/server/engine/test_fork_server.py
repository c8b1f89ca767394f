"""Engine processes out of a fork server, without vLLM: what they inherit, and how they end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from extracot_server.engine.vllm import fork_server

ENGINE = """
import os, sys, time
from multiprocessing import forkserver
from extracot_server.engine.vllm.fork_server import EngineContext
forkserver.ensure_running()
os.environ["SET_LATER"] = "by the parent"
os.environ.pop("UNSET_LATER")
output = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
shown = os.dup(1)
os.dup2(output, 1)
context = EngineContext()
process = context.Process(target=os.system, args=("echo $SET_LATER $UNSET_LATER",))
process.start()
process.join()
os.dup2(shown, 1)
waiting = context.Process(target=time.sleep, args=(600,))
waiting.start()
print(process.exitcode, waiting.pid, forkserver._forkserver._forkserver_pid, flush=True)
waiting.join()
print(waiting.exitcode, flush=True)
"""
WORKER = """
import os, sys, types
from extracot_server.engine.vllm.fork_server import WorkerContext
sys.modules["torch"] = types.SimpleNamespace(set_num_threads=lambda count: print("threads", count))
def show():
    print("cores", *os.sched_getaffinity(0), flush=True)
core = max(os.sched_getaffinity(0))
os.environ |= {"GOMP_CPU_AFFINITY": str(core), "OMP_NUM_THREADS": "1"}
process = WorkerContext().Process(target=show)
process.start()
process.join()
print("expected", core)
"""
ENDS = """
import os
from extracot_server.engine.vllm.fork_server import EngineContext, WorkerContext
END = "import gc; gc.freeze(); gc.unfreeze(); print(gc.get_freeze_count() > 0, flush=True)"
os.environ.pop("OMP_NUM_THREADS", None)
for context in (EngineContext(), WorkerContext()):
    process = context.Process(target=exec, args=(END,))
    process.start()
    process.join()
exec(END)
"""


def test_an_engine_process_is_like_one_that_this_process_started(tmp_path: Path) -> None:
    said = tmp_path / "said"
    environment = {**os.environ, "UNSET_LATER": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", ENGINE, said], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        code, waiting, server = map(int, parent.stdout.readline().split())
        assert code == 0
        assert said.read_text() == "by the parent\n"
        child = os.pidfd_open(waiting)
        os.kill(server, signal.SIGKILL)  # it takes the processes along, and the parent hears so
        assert select.select([child], [], [], 60)[0]
        assert parent.stdout.readline() == "255\n"
    os.close(child)


def test_a_worker_runs_where_the_variables_say() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORKER], capture_output=True, text=True, check=True, timeout=60
    )
    *shown, expected = done.stdout.splitlines()
    assert shown == ["threads 1", f"cores {expected.removeprefix('expected ')}"]


def test_what_is_frozen_is_not_searched_at_the_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDS], capture_output=True, text=True, check=True, timeout=60
    )
    # In both kinds of process it stays frozen; in the one that makes them it does not.
    assert done.stdout.split() == ["True", "True", "False"]


@pytest.mark.parametrize("library", ["/usr/lib/libiomp5.so", "libomp.so"])
def test_another_openmp_library_has_processes_of_its_own(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setattr(fork_server, "on_cpu", lambda: True)
    monkeypatch.setattr(fork_server, "_OPERATORS_OWN", None)
    monkeypatch.setenv("LD_PRELOAD", "")
    assert fork_server.possible()
    monkeypatch.setenv("LD_PRELOAD", library)
    assert not fork_server.possible()


def test_a_gpu_and_an_operators_own_method_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fork_server, "_OPERATORS_OWN", "spawn")
    monkeypatch.setattr(fork_server, "on_cpu", lambda: True)
    assert not fork_server.possible()
    monkeypatch.setattr(fork_server, "_OPERATORS_OWN", None)
    monkeypatch.setattr(fork_server, "on_cpu", lambda: False)
    assert not fork_server.possible()
