"""Text from a model for any stage that needs it: one small interface, two backends.

``base`` holds the interface and opens a backend by its settings; ``http`` is an OpenAI-compatible
server, ``offline`` vLLM in this process. No backend knows what the text is for, and none imports
the server package.
"""
