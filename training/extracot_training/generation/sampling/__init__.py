"""Text from a model for any stage that needs it: one small interface, two backends.

``base`` holds the interface, ``http`` an OpenAI-compatible server, ``offline`` vLLM in this
process. No backend knows what the text is for, and none imports the server package.
"""

from extracot_training.generation.sampling.base import (
    Failure,
    Outcome,
    Request,
    Sample,
    SamplingBackend,
    SamplingError,
    open_backend,
    split_reply,
)

__all__ = [
    "Failure",
    "Outcome",
    "Request",
    "Sample",
    "SamplingBackend",
    "SamplingError",
    "open_backend",
    "split_reply",
]
