"""``/v1/messages``: Anthropic's Messages API, its text subset."""
