"""Text from a model for any stage that needs it: one small interface, two backends.

``base`` holds the interface, ``http`` an OpenAI-compatible server, ``offline`` vLLM in this
process, ``backends`` opens one by its settings. No backend knows what the text is for, and none
imports the server package.
"""
