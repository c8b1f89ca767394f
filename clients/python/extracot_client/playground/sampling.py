"""The playground's boxes for sampling: what is typed into them, as options of a request.

An empty box leaves the choice to the server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import gradio as gr

from extracot_client.errors import InvalidArgumentError
from extracot_client.requests import SolveOptions

N = TypeVar("N", int, float)


def sampling_boxes() -> list[gr.Textbox]:
    """Maximum of tokens, temperature and seed, in the order of :func:`read_options`."""
    # Boxes for text: Gradio's number box turns an empty value into 0 as soon as it is drawn.
    boxes = (("Max tokens", "the server's"), ("Temperature", "the model's"), ("Seed", "none"))
    with gr.Row():
        return [
            gr.Textbox("", label=name, placeholder=f"{default} (empty)", max_lines=1, min_width=140)
            for name, default in boxes
        ]


def read_options(
    model: str | None, max_tokens: str | None, temperature: str | None, seed: str | None
) -> SolveOptions:
    """The chosen model, if there was a choice, and the three boxes as options; an empty box says
    nothing. Raises :class:`InvalidArgumentError` for what is no number; its range is the server's
    to judge."""
    return {
        "model": model or None,
        "max_tokens": _number("Max tokens", max_tokens, int, "a whole number"),
        "temperature": _number("Temperature", temperature, float, "a number"),
        "seed": _number("Seed", seed, int, "a whole number"),
    }


def _number(name: str, text: str | None, kind: Callable[[str], N], what: str) -> N | None:
    text = (text or "").strip()
    try:
        return kind(text) if text else None
    except ValueError:
        raise InvalidArgumentError(f"{name} is {what}, or empty; not {text[:40]!r}") from None
