"""``/v1/chat/completions``: OpenAI's chat, the form that every other API is served by."""
