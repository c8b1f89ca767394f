"""vLLM servers elsewhere, as one engine."""
