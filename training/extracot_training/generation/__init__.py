"""Text and rollouts from a model: in this process, by vLLM, or over HTTP."""
