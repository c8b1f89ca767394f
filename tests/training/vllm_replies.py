"""Greedy replies of model folders by vLLM in this process, a JSON line each.

    python -m tests.training.vllm_replies FOLDER [FOLDER ...]

One import and one process for all of them: a server for each would take minutes.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

ENGINE = {
    "dtype": "float32", "enforce_eager": True, "block_size": 32, "max_num_seqs": 4,
    "kv_cache_memory_bytes": 32 << 20, "max_model_len": 256,
}  # fmt: skip


def main() -> None:
    """Load each folder and ask it."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    from extracot_training.config.sampling import RolloutSamplingParams, VllmIdsBackend
    from extracot_training.generation.rollout.engines import open_rollouts
    from extracot_training.policy.prompt_settings import PromptSettings
    from tests.training.architectures import LONGEST, asked

    params = RolloutSamplingParams(temperature=0, max_tokens=LONGEST)
    for name in sys.argv[1:]:
        folder = Path(name)
        prompt = PromptSettings.load(folder)
        backend = open_rollouts(VllmIdsBackend(engine=ENGINE), name, prompt, params)
        ids = {one.key: one.ids for one in backend.run(asked(folder))}
        print(json.dumps({"model": folder.name, "ids": ids}), flush=True)
        backend.close()
        del backend
        gc.collect()
        cleanup_dist_env_and_memory()


if __name__ == "__main__":
    main()
