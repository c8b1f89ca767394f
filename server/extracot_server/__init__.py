"""The budget-controlled, OpenAI-compatible inference server."""
