"""OpenAI-compatible servers elsewhere as an engine that is asked by chat messages."""
