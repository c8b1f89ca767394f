"""The playground's three tabs: their components, and what happens when a button is pressed.

Also the boxes for sampling, which two of them share; an empty box leaves the choice to the server.
What is asked and what is shown is decided in :mod:`extracot_client.playground.backend`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import gradio as gr

from extracot_client.commands.common import parse_budget
from extracot_client.errors import InvalidArgumentError
from extracot_client.playground.backend import Backend, View
from extracot_client.playground.compare_views import NOTHING_COMPARED
from extracot_client.playground.markdown import LATEX_DELIMITERS
from extracot_client.playground.stop import Runs
from extracot_client.playground.views import NOTHING_YET, savings_page, status, summary_to_come
from extracot_client.requests import SolveOptions
from extracot_client.types import Budget, SweepRow

MODES = [("Ratio", "ratio"), ("Auto", "auto"), ("Native", "native"), ("None", "none")]
MODES_INFO = (
    "Ratio: the slider. Auto: the model chooses. Native: no budget. None: no reasoning at all."
)
SUMMARY_HINT = "Each reply gets a summary here: tokens used, tokens saved, time taken."
STOPPED = "Stopped; the server was told to stop, too. What had come is kept below."
N = TypeVar("N", int, float)
# Events of a page, not an API; what is running is shown as text, not by an overlay.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True, slots=True)
class Shared:
    """Components that more than one tab uses."""

    problem: gr.Textbox
    options: list[Any]
    session: gr.State


def solve_tab(backend: Backend, shared: Shared) -> gr.Radio:
    """One problem at one budget; gives the choice of the budget's kind."""
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
    go, stop = _buttons("Solve", "xc-solve", "xc-stop")
    summary = gr.HTML(summary_to_come(SUMMARY_HINT), elem_id="xc-summary")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            gr.HTML('<h2 class="xc-heading">Reasoning</h2>')
            reasoning = gr.Markdown(latex_delimiters=LATEX_DELIMITERS, elem_id="xc-reasoning")
        with gr.Column(min_width=300):
            gr.HTML('<h2 class="xc-heading">Answer</h2>')
            answer = gr.Markdown(latex_delimiters=LATEX_DELIMITERS, elem_id="xc-answer")

    def ask(
        problem: str, options: SolveOptions, session: list[SweepRow], mode: str, ratio: float
    ) -> AsyncGenerator[View, None]:
        budget: Budget = round(float(ratio), 4) if mode == "ratio" else mode
        return backend.solve(problem, budget, session, options)

    # Moving the slider means a ratio is wanted; done in the page, without asking anyone.
    ratio.input(None, None, mode, js="() => 'ratio'")
    gr.on(
        [go.click, shared.problem.submit],
        _run_with(("reasoning", "answer"), ask, summary_to_come, stop),
        [shared.problem, shared.session, *shared.options, mode, ratio],
        [summary, reasoning, answer, go, stop, shared.session],
        trigger_mode="once",
        **QUIET,
    )
    return mode


def compare_tab(backend: Backend, shared: Shared) -> gr.CheckboxGroup:
    """One problem at several budgets; gives the choice of budgets."""
    chosen = gr.CheckboxGroup(
        choices=[], label="Budgets (what the server offers)", elem_id="xc-budgets"
    )
    together = gr.Checkbox(True, label="Ask all at once (faster; the times then share the machine)")
    known = gr.Textbox(
        "",
        label="Known answer",
        placeholder="not known (empty)",
        max_lines=1,
        elem_id="xc-known",
    )
    go, stop = _buttons("Compare", "xc-compare", "xc-compare-stop")
    line = gr.HTML(status(""), elem_id="xc-compare-status")
    numbers = gr.HTML(NOTHING_COMPARED, elem_id="xc-table")
    charts = gr.HTML(elem_id="xc-charts")
    cards = gr.Markdown(latex_delimiters=LATEX_DELIMITERS, elem_id="xc-cards")

    def ask(
        problem: str,
        options: SolveOptions,
        session: list[SweepRow],
        chosen: Sequence[str],
        together: bool,
        known: str | None,
    ) -> AsyncGenerator[View, None]:
        budgets = [budget for name in chosen if (budget := parse_budget(name)) is not None]
        return backend.compare(
            problem, budgets, session, options, together=together, known=known or ""
        )

    gr.on(
        [go.click, known.submit],
        _run_with(("table", "charts", "cards"), ask, status, stop),
        [shared.problem, shared.session, *shared.options, chosen, together, known],
        [line, numbers, charts, cards, go, stop, shared.session],
        trigger_mode="once",
        **QUIET,
    )
    return chosen


def savings_tab(shared: Shared) -> None:
    """What the session adds up to."""
    savings = gr.HTML(NOTHING_YET, elem_id="xc-savings")
    with gr.Row():
        again = gr.Button("Start over", elem_id="xc-again", scale=0, min_width=160)
    shared.session.change(savings_page, shared.session, savings, **QUIET)
    again.click(lambda: [], None, shared.session, **QUIET)


def _buttons(name: str, go_id: str, stop_id: str) -> tuple[gr.Button, gr.Button]:
    with gr.Row():
        go = gr.Button(name, variant="primary", elem_id=go_id, scale=3, min_width=120)
        stop = gr.Button("Stop", interactive=False, elem_id=stop_id, min_width=120)
    return go, stop


def _run_with(
    parts: tuple[str, ...],
    ask: Callable[..., AsyncGenerator[View, None]],
    status_line: Callable[..., str],
    stop: gr.Button,
) -> Callable[..., AsyncGenerator[tuple[Any, ...], None]]:
    """The handler of a tab's main button: shows the views of ``ask`` until ``stop`` is pressed.

    It is given the problem, the session, the sampling options and then what the tab itself reads;
    it gives the status, the ``parts`` of the view, both buttons and the session.
    """
    runs: Runs[View] = Runs()

    def updates(view: View) -> tuple[Any, ...]:
        shown = [getattr(view, name) for name in parts]
        buttons = gr.Button(interactive=not view.running), gr.Button(interactive=view.running)
        session = gr.skip() if view.session is None else view.session
        return (view.status, *shown, *buttons, session)

    def stopped(view: View) -> View:
        return replace(view, status=status_line(STOPPED), running=False)

    async def run(
        request: gr.Request,
        problem: str | None,
        session: list[SweepRow],
        model: str | None,
        max_tokens: str | None,
        temperature: str | None,
        seed: str | None,
        *own: Any,
    ) -> AsyncGenerator[tuple[Any, ...], None]:
        try:
            options = read_options(model, max_tokens, temperature, seed)
        except InvalidArgumentError as error:
            yield updates(View(status=status_line(str(error), kind="error"), running=False))
            return
        source = ask(problem or "", options, session, *own)
        async with aclosing(runs.views(str(request.session_hash), source, stopped)) as views:
            async for view in views:
                yield updates(view)

    async def halt(request: gr.Request) -> None:
        runs.stop(str(request.session_hash))

    stop.click(halt, queue=False, **QUIET)
    return run


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
