"""The playground as a whole: the page's layout and theme, and how it is mounted in a server.

Built of Gradio parts. The page loads nothing from outside: fonts and scripts are Gradio's own
files, telemetry is off, and :mod:`extracot_client.playground.security` forbids the browser
anything else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Read when gradio is imported, so they stand before it.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import gradio as gr

from extracot_client.playground.backend import Backend
from extracot_client.playground.security import OwnServerOnly
from extracot_client.playground.tabs import (
    MODES,
    QUIET,
    Shared,
    compare_tab,
    sampling_boxes,
    savings_tab,
    solve_tab,
)
from extracot_client.playground.views import example_labels, status

# For a model whose card names none.
EXAMPLES = (
    "What is 12 * 12?",
    "A shirt costs $40. It is discounted by 25%, then by another $5. What is the final price?",
    "How many positive divisors does 360 have?",
    "Find the sum of all $x$ with $x^2 - 5x + 6 = 0$.",
)
OPTIONS: dict[str, Any] = {
    "css_paths": [Path(__file__).with_name("page.css")],
    # A triple is what Starlette's own class for a middleware unpacks to.
    "app_kwargs": {"middleware": [(OwnServerOnly, (), {})]},
    "footer_links": [],
    "run_history": False,
    "ssr_mode": False,
    "pwa": False,
    "enable_monitoring": False,
    "mcp_server": False,
}
"""Options of both :meth:`gradio.Blocks.launch` and :func:`gradio.mount_gradio_app`."""


def samples_of(questions: Sequence[str]) -> dict[str, Any]:
    """What lists them as examples, told apart."""
    return {"samples": [[text] for text in questions], "sample_labels": example_labels(questions)}


def launch_options() -> dict[str, Any]:
    """:data:`OPTIONS` with the theme, whose fonts are files of Gradio's own.

    Weight 700, because the files of 600 that Gradio 6.31 brings hold no Latin letters; quiet text
    is darker than the theme's own, which is too faint to read.
    """
    theme = gr.themes.Default(
        primary_hue="indigo",
        neutral_hue="slate",
        font=[gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), "sans-serif"],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "monospace"],
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        checkbox_border_color="*neutral_400",
        checkbox_border_color_dark="*neutral_400",
    )
    return {**OPTIONS, "theme": theme}


def mount(app: Any, path: str, base_url: str) -> None:
    """Serve the playground under ``path`` of an app (FastAPI) whose lifespan has not begun.

    A server finds this by the entry point ``playground`` of the group ``extracot.mounts``, without
    importing this package. The page's events still go over HTTP, to ``base_url``.
    """
    gr.mount_gradio_app(app, build_playground(Backend(base_url)), path=path, **launch_options())


def build_playground(backend: Backend) -> gr.Blocks:
    """The page; nothing is asked of the server before it is opened."""
    with gr.Blocks(title="extracot playground", analytics_enabled=False) as page:
        gr.Markdown("# Extra-CoT playground")
        server = gr.HTML(
            status("Connecting to the server …", kind="busy"), elem_id="xc-server", padding=False
        )
        model = gr.Dropdown([], label="Model", visible=False, elem_id="xc-model")
        problem = gr.Textbox(
            label="Problem",
            placeholder="Type a problem; Shift+Enter solves it",
            lines=2,
            max_lines=12,
            autofocus=True,
            elem_id="xc-problem",
        )
        examples = gr.Dataset(
            label="Examples",
            components=[gr.Textbox(visible=False)],
            **samples_of(EXAMPLES),
            elem_id="xc-examples",
        )
        examples.click(lambda sample: sample[0], examples, problem, **QUIET)
        with gr.Accordion("Sampling", open=False):
            options = sampling_boxes()
        shared = Shared(problem, [model, *options], gr.State([]))
        with gr.Tabs():
            with gr.Tab("Solve", id="solve"):
                mode = solve_tab(backend, shared)
            with gr.Tab("Compare", id="compare"):
                chosen = compare_tab(backend, shared)
            with gr.Tab("Savings", id="savings"):
                savings_tab(shared)

        async def describe(wanted: str | None) -> tuple[Any, ...]:
            view = await backend.describe(wanted)
            if not view.reached:
                return view.line, gr.skip(), gr.skip(), gr.skip(), gr.skip()
            modes = [entry for entry in MODES if entry[1] != "auto" or view.auto]
            radio = gr.Radio(choices=modes) if view.auto else gr.Radio(modes, value="ratio")
            group = gr.CheckboxGroup(choices=list(view.budgets), value=view.budgets)
            choice = gr.Dropdown(view.models, value=view.model, visible=bool(view.models))
            shown = gr.Dataset(**samples_of(view.examples or EXAMPLES))
            return view.line, radio, group, choice, shown

        for event in (page.load, model.input):
            event(describe, model, [server, mode, chosen, model, examples], **QUIET)
    page.queue(default_concurrency_limit=32)
    return page
