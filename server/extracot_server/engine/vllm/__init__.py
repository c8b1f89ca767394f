"""vLLM inside the server process."""
