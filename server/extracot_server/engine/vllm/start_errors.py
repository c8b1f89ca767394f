"""Reduces a failed engine start (an exception, tracebacks) to one line for an operator.

Text in, text out; knows vLLM's words but does not import it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_LIMIT = 300
_RAISED = re.compile(r"(?:^|[\s\]])((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception))(?:: (\S.*))?$")
_FRAME = re.compile(r'File "[^"]*", line \d+, in (\w+)')
# Raised by a parent because a child failed: says nothing of the cause.
_SECOND_HAND = re.compile(r"initialization failed|See root cause above|EngineCore encountered")
_KILLED = re.compile(r"Failed core proc\(s\): \{[^}]*: -(\d+)")
# Messages of vLLM and its libraries (lower case) -> what they mean; the first that matches counts.
_MEANINGS = (
    ("cannot auto-fit max_model_len", "too little memory for the KV cache of even one token"),
    ("no space left", "no space left on the disk"),
    ("not a valid model identifier", "neither a local folder nor a model the hub could give"),
    ("repo id must be", "neither a local folder nor a model the hub could give"),
    ("cached snapshot", "neither a local folder nor a model the hub could give"),
    ("repository not found", "neither a local folder nor a model the hub could give"),
    ("couldn't connect", "neither a local folder nor a model the hub could give"),
    ("unpack requires a buffer", "a file of weights is damaged or incomplete"),
    ("error while deserializing header", "a file of weights is damaged or incomplete"),
    ("in weight_loader", "the weights do not have the sizes that config.json says"),
    ("instantiate the backend tokenizer", "the folder holds no usable tokenizer"),
)


def explain_start(model: str, error: BaseException, printed: Sequence[str] = ()) -> str:
    """Why ``model`` could not be loaded, in one line of at most a few hundred characters.

    ``printed`` are lines that child processes left; the first cause named there beats ``error``
    where that only says that a child failed.
    """
    text = _message(error)
    if _SECOND_HAND.search(text):
        cause = _first_cause(printed)
        killed = _KILLED.search(text)
        if cause is not None:
            text = cause
        elif killed is not None:
            text = f"the engine process was killed by signal {killed[1]}"
            text += ", which often means too little memory" if killed[1] == "9" else ""
    return f"cannot serve {model}: {_shorten(_reword(text))}"


def _message(error: BaseException) -> str:
    """The text of an exception; of pydantic's long report only what was wrong first."""
    details = getattr(error, "errors", None)
    if callable(details):
        first = details()[0]
        place = str(first["loc"][0]) if first["loc"] else ""
        message = str(first["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
        return f"{place}: {message}" if place else message
    text = str(error)
    plain = isinstance(error, (ValueError, RuntimeError, OSError)) and text
    return text if plain else f"{type(error).__name__}: {text}".removesuffix(": ")


def _first_cause(printed: Sequence[str]) -> str | None:
    function = ""
    for line in printed:
        frame = _FRAME.search(line)
        if frame is not None:
            function = frame[1]
        raised = _RAISED.search(line.rstrip())
        if raised is not None and not _SECOND_HAND.search(raised[2] or ""):
            return raised[2] or f"{raised[1]} in {function}"
    return None


def _reword(text: str) -> str:
    """The usual causes in plain words, without what does not help."""
    lowered = text.lower()
    for sign, meaning in _MEANINGS:
        if sign in lowered:
            return meaning
    if "are not supported for now" in text:
        return text.split(" Supported architectures:")[0].replace(" for now", " by this vLLM")
    needed = re.search(r"\(([\d.]+) GiB KV cache is needed.*?\(([\d.]+) GiB\)", text)
    if needed is not None:
        fits = re.search(r"estimated maximum model length is (\d+)", text)
        hint = f"; max_model_len={fits[1]} would fit" if fits else ""
        return f"one full request needs {needed[1]} GiB of KV cache, there are {needed[2]}{hint}"
    if "out of memory" in lowered or "no available memory for the cache" in lowered:
        return f"too little memory: {text}"
    return text


def _shorten(text: str) -> str:
    """Whole sentences while they fit, on one line."""
    line = re.sub(r" ?\[type=\w+, input_value=.*", "", " ".join(text.split()))
    kept, *sentences = re.split(r"(?<=[.!?]) (?=[A-Z])", line)
    for sentence in sentences:
        if len(kept) + len(sentence) >= _LIMIT * 2 // 3:
            break
        kept += f" {sentence}"
    return kept if len(kept) <= _LIMIT else f"{kept[: _LIMIT - 1].rstrip()}…"
