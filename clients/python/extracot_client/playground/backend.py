"""The actions of the buttons: each asks the server and yields the views of its tab.

Each generator that is closed early (the stop button, a closed page) leaves its stream, which
aborts on the server. Independent of Gradio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from extracot_client.async_client import AsyncExtracot
from extracot_client.base import base_models
from extracot_client.commands.common import offered_budgets
from extracot_client.errors import ExtracotClientError, NotFoundError
from extracot_client.playground.compare_views import (
    NOTHING_COMPARED,
    compare_cards,
    compare_charts,
    compare_table,
)
from extracot_client.playground.markdown import to_markdown
from extracot_client.playground.session import remember, solution_row
from extracot_client.playground.views import (
    example_questions,
    server_line,
    status,
    summary_card,
    summary_to_come,
)
from extracot_client.requests import SolveOptions
from extracot_client.settings import resolve_settings
from extracot_client.sweeps import as_problem, budget_key
from extracot_client.types import (
    AnswerDelta,
    Budget,
    BudgetCardPage,
    Done,
    ReasoningDelta,
    SweepRow,
)

# A page need not be drawn more often than this; what comes in between is shown with the next.
SECONDS_BETWEEN_VIEWS = 0.06
NO_PROBLEM = "Type a problem first."


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The solve or the compare tab at one moment: HTML and Markdown, each tab showing its own."""

    status: str
    running: bool = True
    session: list[SweepRow] | None = None
    """``None`` while nothing was added to it."""
    reasoning: str = ""
    answer: str = ""
    table: str = ""
    charts: str = ""
    cards: str = ""


@dataclass(frozen=True, slots=True)
class ServerView:
    """What the server offers; ``reached`` is false where none answers."""

    line: str
    budgets: list[str] = field(default_factory=list)
    auto: bool = True
    reached: bool = True
    models: list[str] = field(default_factory=list)
    """What there is to choose from; empty where there is no choice."""
    model: str | None = None
    examples: list[str] = field(default_factory=list)
    """Questions for this model; empty where its card names none."""


class Backend:
    """The server that the playground asks. Raises ``ConfigurationError`` for a bad address."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float | None = None,
        model: str | None = None,
    ) -> None:
        settings = resolve_settings(base_url, api_key, timeout=timeout)
        self.url = settings.shown_url
        self._model = model
        # A client for each event: connection pools belong to the event loop they began in.
        self._client = partial(AsyncExtracot, base_url, api_key, timeout=timeout, model=model)

    async def describe(self, model: str | None = None) -> ServerView:
        """The line under the heading, and the budgets worth comparing on ``model`` (default: the
        one that was asked for at the start, else the first)."""
        model = model or self._model
        models: list[str] = []
        try:
            async with self._client() as client:
                if self._model is None:
                    models = base_models(await client.models())
                model = model or next(iter(models), None)
                page = await client.budget_card(model)
        except NotFoundError:
            page = BudgetCardPage()  # Another OpenAI-compatible server: any ratio may do.
        except ExtracotClientError as error:
            line = status(f"{error}. Reload this page to try again.", kind="error")
            return ServerView(line, reached=False)
        budgets = [budget_key(budget) for budget in offered_budgets(page)]
        return ServerView(
            server_line(page, self.url),
            budgets,
            auto="auto" in budgets,
            models=models if len(models) > 1 else [],
            model=model if len(models) > 1 else None,
            examples=example_questions(page),
        )

    async def solve(
        self, problem: str, budget: Budget, session: Sequence[SweepRow], options: SolveOptions
    ) -> AsyncGenerator[View, None]:
        """Stream one reply."""
        if not problem.strip():
            yield View(status=summary_to_come(NO_PROBLEM, kind="error"), running=False)
            return
        yield View(status=summary_to_come("Waiting for the first token …", kind="busy"))
        reasoning, answer = "", ""
        loop = asyncio.get_running_loop()
        next_view = loop.time()

        def view(status: str, **given: Any) -> View:
            shown = to_markdown(reasoning), to_markdown(answer)
            return View(status=status, reasoning=shown[0], answer=shown[1], **given)

        try:
            async with (
                self._client() as client,
                client.stream(problem, budget=budget, **options) as stream,
            ):
                async for event in stream:
                    match event:
                        case ReasoningDelta(text):
                            reasoning += text
                        case AnswerDelta(text):
                            answer += text
                        case Done(solution):
                            kept = remember(session, solution_row(problem, budget, solution))
                            yield view(summary_card(solution), running=False, session=kept)
                            return
                    if loop.time() >= next_view:
                        word = "Answering …" if answer else "Reasoning …"
                        yield view(summary_to_come(word, kind="busy"))
                        next_view = loop.time() + SECONDS_BETWEEN_VIEWS
        except ExtracotClientError as error:
            yield view(summary_to_come(str(error), kind="error"), running=False)

    async def compare(
        self,
        problem: str,
        budgets: Sequence[Budget],
        session: Sequence[SweepRow],
        options: SolveOptions,
        *,
        together: bool,
        known: str = "",
    ) -> AsyncGenerator[View, None]:
        """One problem at several budgets; replies take their places as they come. ``known`` is the
        right answer, where there is one."""
        if not problem.strip() or not budgets:
            text = NO_PROBLEM if budgets else "Choose at least one budget."
            line = status(text, kind="error")
            yield View(status=line, table=NOTHING_COMPARED, running=False)
            return
        names = [budget_key(budget) for budget in budgets]
        asked = replace(as_problem(problem), answer=known.strip() or None)
        rows: dict[str, SweepRow] = {}
        kept: list[SweepRow] | None = None
        concurrency = len(budgets) if together else 1
        yield _compare_view(names, rows)
        try:
            async with (
                self._client() as client,
                aclosing(
                    client.sweep([asked], budgets, concurrency=concurrency, **options)
                ) as source,
            ):
                async for row in source:
                    rows[budget_key(row.budget)] = row
                    kept = remember(session if kept is None else kept, row)
                    yield _compare_view(names, rows, kept)
        except ExtracotClientError as error:
            yield _compare_view(names, rows, kept, error=error)


def _compare_view(
    names: list[str],
    rows: dict[str, SweepRow],
    session: list[SweepRow] | None = None,
    error: ExtracotClientError | None = None,
) -> View:
    """The replies there are, and the budgets that are still waited for (none after an error)."""
    missing = error is None and len(rows) < len(names)
    failed = sum(row.error is not None for row in rows.values())
    text = f"{len(rows)} of {len(names)} replies" + (f", {failed} failed" if failed else "")
    if error is not None:
        line = status(str(error), kind="error")
    else:
        line = status(text + (" …" if missing else ""), kind="busy" if missing else "")
    return View(
        status=line,
        table=compare_table([name for name in names if missing or name in rows], rows),
        charts=compare_charts(names, rows),
        cards=compare_cards(names, rows, waiting=missing),
        running=missing,
        session=session,
    )
