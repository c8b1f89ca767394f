"""A worker inside its engine process, on CPUs: what vLLM runs a model with there, for one worker.

vLLM 0.32 gives every worker on a CPU a process of its own, because OpenMP reads its variables when
it is loaded. Forked engine processes set cores and threads by themselves (`fork_server`), so a
single worker needs none: a step then costs no message to another process and none back, and what a
second process holds is saved. The cache of keys and values takes memory as it is used.

Imported where vLLM is.
"""

from __future__ import annotations

from vllm.utils.ompmultiprocessing import OMPProcessManager
from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.kv_cache_interface import KVCacheConfig

from extracot_server.engine.vllm.threads import use_named_cores
from extracot_server.engine.vllm.zeros import ZerosAsUsed


class OneProcessExecutor(UniProcExecutor):  # type: ignore[misc]  # vLLM is Any here
    """An engine process's own worker, on the cores that vLLM chooses for it."""

    def _init_executor(self) -> None:
        with OMPProcessManager(self.vllm_config).configure_omp_envs(rank=0, local_rank=0):
            use_named_cores()
            super()._init_executor()

    def initialize_from_config(self, kv_cache_configs: list[KVCacheConfig]) -> None:
        """Make the cache of keys and values."""
        with ZerosAsUsed():
            super().initialize_from_config(kv_cache_configs)
