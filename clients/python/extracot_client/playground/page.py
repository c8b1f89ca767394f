"""The playground: a page in the browser to ask, compare and add up, built of Gradio parts.

Wires components to :mod:`extracot_client.playground.events`; what is asked and what is shown is
decided there. The page loads nothing from outside: fonts and scripts are Gradio's own files,
telemetry is off, and :mod:`extracot_client.playground.policy` forbids the browser anything else.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

# Read when gradio is imported, so they stand before it.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import gradio as gr

from extracot_client.commands.common import parse_budget
from extracot_client.errors import InvalidArgumentError
from extracot_client.playground.events import Backend, CompareView, SolveView
from extracot_client.playground.policy import OwnServerOnly
from extracot_client.playground.runs import Runs
from extracot_client.playground.sampling import read_options, sampling_boxes
from extracot_client.playground.text import LATEX_DELIMITERS
from extracot_client.playground.views import NOTHING_YET, receipt_to_come, savings_page, status
from extracot_client.types import BudgetValue, SweepRow

V = TypeVar("V", SolveView, CompareView)
EXAMPLES = (
    "What is 12 * 12?",
    "A shirt costs $40. It is discounted by 25%, then by another $5. What is the final price?",
    "How many positive divisors does 360 have?",
    "Find the sum of all $x$ with $x^2 - 5x + 6 = 0$.",
)
MODES = [("Ratio", "ratio"), ("Auto", "auto"), ("Native", "native"), ("None", "none")]
MODES_INFO = (
    "Ratio: the slider. Auto: the model chooses. Native: no budget. None: no reasoning at all."
)
RECEIPT_HINT = "Each reply gets a receipt here: what it used, what that saved, how long it took."
STOPPED = "Stopped; the server was told to stop, too. What had come is kept below."
LOOKS: dict[str, Any] = {
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
"""What :meth:`gradio.Blocks.launch` and :func:`gradio.mount_gradio_app` are both told."""


def looks() -> dict[str, Any]:
    """:data:`LOOKS` with the theme, whose fonts are files of Gradio's own.

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
    return {**LOOKS, "theme": theme}


def mount(app: Any, path: str, base_url: str) -> None:
    """Serve the playground under ``path`` of an app (FastAPI) whose lifespan has not begun.

    A server finds this by the entry point ``playground`` of the group ``extracot.mounts``, so it
    need not know this package. The page's events still go over HTTP, to ``base_url``.
    """
    gr.mount_gradio_app(app, build_playground(Backend(base_url)), path=path, **looks())


@dataclass(frozen=True, slots=True)
class _Shared:
    """Components that more than one tab uses."""

    problem: gr.Textbox
    options: list[Any]
    session: gr.State


def build_playground(backend: Backend) -> gr.Blocks:
    """The page; nothing is asked of the server before it is opened."""
    with gr.Blocks(title="extracot playground", analytics_enabled=False) as page:
        gr.Markdown("# Extra-CoT playground")
        server = gr.HTML(
            status("Looking for the server …", kind="busy"), elem_id="xc-server", padding=False
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
        gr.Examples([[text] for text in EXAMPLES], inputs=[problem], label="Examples")
        with gr.Accordion("Sampling", open=False):
            options = sampling_boxes()
        shared = _Shared(problem, [model, *options], gr.State([]))
        with gr.Tabs():
            with gr.Tab("Solve", id="solve"):
                mode = _solve_tab(backend, shared)
            with gr.Tab("Compare", id="compare"):
                chosen = _compare_tab(backend, shared)
            with gr.Tab("Savings", id="savings"):
                _savings_tab(shared)

        async def describe(wanted: str | None) -> tuple[Any, ...]:
            view = await backend.describe(wanted)
            if not view.reached:
                return view.line, gr.skip(), gr.skip(), gr.skip()
            modes = [entry for entry in MODES if entry[1] != "auto" or view.auto]
            radio = gr.Radio(choices=modes) if view.auto else gr.Radio(modes, value="ratio")
            group = gr.CheckboxGroup(choices=list(view.budgets), value=view.budgets)
            choice = gr.Dropdown(view.models, value=view.model, visible=bool(view.models))
            return view.line, radio, group, choice

        for event in (page.load, model.input):
            event(describe, model, [server, mode, chosen, model], **_QUIET)
    page.queue(default_concurrency_limit=32)
    return page


# Events of a page, not an API; what is running is said in words, not by a veil over the text.
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def read_budget(mode: str, ratio: float) -> BudgetValue:
    """The radio and the slider as a budget."""
    return round(float(ratio), 4) if mode == "ratio" else mode


def _solve_tab(backend: Backend, shared: _Shared) -> gr.Radio:
    with gr.Row(equal_height=False):
        mode = gr.Radio(
            MODES, value="ratio", label="Budget", info=MODES_INFO, elem_id="xc-mode", scale=3
        )
        ratio = gr.Slider(
            0.05,
            1.0,
            value=0.4,
            step=0.05,
            label="Ratio of the usual reasoning",
            elem_id="xc-ratio",
            scale=2,
            min_width=260,
        )
    with gr.Row():
        go = gr.Button("Solve", variant="primary", elem_id="xc-solve", scale=3, min_width=120)
        stop = gr.Button("Stop", interactive=False, elem_id="xc-stop", min_width=120)
    outputs = [*_reply_parts(), go, stop, shared.session]
    runs: Runs[SolveView] = Runs()

    async def solve(
        problem: str,
        mode: str,
        ratio: float,
        session: list[SweepRow],
        model: str | None,
        max_tokens: str | None,
        temperature: str | None,
        seed: str | None,
        request: gr.Request,
    ) -> AsyncGenerator[tuple[Any, ...], None]:
        try:
            options = read_options(model, max_tokens, temperature, seed)
        except InvalidArgumentError as error:
            line = receipt_to_come(str(error), kind="error")
            yield _solve_updates(SolveView(line, running=False))
            return
        source = backend.solve(problem or "", read_budget(mode, ratio), session, options)
        async with aclosing(_stoppable(runs, request, source, receipt_to_come)) as views:
            async for view in views:
                yield _solve_updates(view)

    # Moving the slider means a ratio is wanted; done in the page, without asking anyone.
    ratio.input(None, None, mode, js="() => 'ratio'")
    gr.on(
        [go.click, shared.problem.submit],
        solve,
        [shared.problem, mode, ratio, shared.session, *shared.options],
        outputs,
        trigger_mode="once",
        **_QUIET,
    )
    _stops(stop, runs)
    return mode


def _reply_parts() -> list[Any]:
    """Where a reply is shown: receipt, reasoning and answer."""
    receipt = gr.HTML(receipt_to_come(RECEIPT_HINT), elem_id="xc-receipt")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            gr.HTML('<h2 class="xc-heading">Reasoning</h2>')
            reasoning = gr.Markdown(latex_delimiters=LATEX_DELIMITERS, elem_id="xc-reasoning")
        with gr.Column(min_width=300):
            gr.HTML('<h2 class="xc-heading">Answer</h2>')
            answer = gr.Markdown(latex_delimiters=LATEX_DELIMITERS, elem_id="xc-answer")
    return [receipt, reasoning, answer]


def _stoppable(
    runs: Runs[V],
    request: gr.Request,
    source: AsyncGenerator[V, None],
    say: Callable[[str], str],
) -> AsyncGenerator[V, None]:
    """The views of ``source``, until this session's stop button is pressed."""

    def stopped(view: V) -> V:
        return replace(view, status=say(STOPPED), running=False)

    return runs.views(_session_of(request), source, stopped)


def _stops(button: gr.Button, runs: Runs[V]) -> None:
    """Let a button end what runs in its tab, for the session that presses it."""

    async def halt(request: gr.Request) -> None:
        runs.stop(_session_of(request))

    button.click(halt, queue=False, **_QUIET)


def _session_of(request: gr.Request) -> str:
    return str(request.session_hash)


def _solve_updates(view: SolveView) -> tuple[Any, ...]:
    session = gr.skip() if view.session is None else view.session
    return (view.status, view.reasoning, view.answer, *_buttons(view.running), session)


def _buttons(running: bool) -> tuple[Any, Any]:
    return gr.Button(interactive=not running), gr.Button(interactive=running)


def _compare_tab(backend: Backend, shared: _Shared) -> gr.CheckboxGroup:
    chosen = gr.CheckboxGroup(
        choices=[], label="Budgets (what the server offers)", elem_id="xc-budgets"
    )
    together = gr.Checkbox(True, label="Ask all at once (faster; the times then share the machine)")
    with gr.Row():
        go = gr.Button("Compare", variant="primary", elem_id="xc-compare", scale=3, min_width=120)
        stop = gr.Button("Stop", interactive=False, elem_id="xc-compare-stop", min_width=120)
    line = gr.HTML(status(""), elem_id="xc-compare-status")
    charts = gr.HTML(elem_id="xc-charts")
    cards = gr.Markdown(latex_delimiters=LATEX_DELIMITERS, elem_id="xc-cards")

    runs: Runs[CompareView] = Runs()

    async def compare(
        problem: str,
        chosen: Sequence[str],
        together: bool,
        session: list[SweepRow],
        model: str | None,
        max_tokens: str | None,
        temperature: str | None,
        seed: str | None,
        request: gr.Request,
    ) -> AsyncGenerator[tuple[Any, ...], None]:
        budgets = [budget for name in chosen if (budget := parse_budget(name)) is not None]
        try:
            options = read_options(model, max_tokens, temperature, seed)
        except InvalidArgumentError as error:
            yield _compare_updates(CompareView(status(str(error), kind="error"), running=False))
            return
        source = backend.compare(problem or "", budgets, session, options, together=together)
        async with aclosing(_stoppable(runs, request, source, status)) as views:
            async for view in views:
                yield _compare_updates(view)

    go.click(
        compare,
        [shared.problem, chosen, together, shared.session, *shared.options],
        [line, cards, charts, go, stop, shared.session],
        trigger_mode="once",
        **_QUIET,
    )
    _stops(stop, runs)
    return chosen


def _compare_updates(view: CompareView) -> tuple[Any, ...]:
    session = gr.skip() if view.session is None else view.session
    return (view.status, view.cards, view.charts, *_buttons(view.running), session)


def _savings_tab(shared: _Shared) -> None:
    savings = gr.HTML(NOTHING_YET, elem_id="xc-savings")
    with gr.Row():
        again = gr.Button("Start over", elem_id="xc-again", scale=0, min_width=160)
    shared.session.change(savings_page, shared.session, savings, **_QUIET)
    again.click(lambda: [], None, shared.session, **_QUIET)
