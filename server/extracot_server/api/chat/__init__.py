"""``/v1/chat/completions``: OpenAI's chat API; the other APIs are converted to it."""
