"""A worker inside its engine process, on CPUs: what vLLM runs a model with there, for one worker.

vLLM 0.32 gives every worker on a CPU a process of its own, because OpenMP reads its variables when
it is loaded. Forked engine processes set cores and threads by themselves (`fork_server`), so a
single worker needs none: a step then costs no message to another process and none back, and what a
second process holds is saved. The cache of keys and values takes memory as it is used.

Imported where vLLM is.
"""

from __future__ import annotations

import os
from typing import Any

from vllm.utils.ompmultiprocessing import OMPProcessManager
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.kv_cache_interface import KVCacheConfig

from extracot_server.engine.vllm.threads import use_named_cores
from extracot_server.engine.vllm.zeros import ZerosAsUsed


class OneProcessExecutor(UniProcExecutor):  # type: ignore[misc]  # vLLM is Any here
    """An engine process's own worker, on the cores that vLLM chooses for it.

    Only what computes is bound to them: threads for messages, which the engine process starts
    between the executor and its first step, run on any core.
    """

    def _init_executor(self) -> None:
        anywhere = os.sched_getaffinity(0)
        with OMPProcessManager(self.vllm_config).configure_omp_envs(rank=0, local_rank=0):
            use_named_cores()
            self._cores: set[int] | None = os.sched_getaffinity(0)
            super()._init_executor()
        os.sched_setaffinity(0, anywhere)

    def initialize_from_config(self, kv_cache_configs: list[KVCacheConfig]) -> None:
        """Make the cache of keys and values."""
        with ZerosAsUsed():
            super().initialize_from_config(kv_cache_configs)

    def execute_model(self, scheduler_output: SchedulerOutput, non_block: bool = False) -> Any:
        """A step."""
        if self._cores is not None:
            os.sched_setaffinity(0, self._cores)
            self._cores = None
        return super().execute_model(scheduler_output, non_block)
