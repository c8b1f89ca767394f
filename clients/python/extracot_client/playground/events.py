"""What happens when a button is pressed: asks the server, yields what is to be shown by then.

Each generator that is closed early (the stop button, a closed page) leaves its stream, which
aborts on the server. Knows the client and the views, not Gradio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from extracot_client.async_client import AsyncExtracot
from extracot_client.commands.common import offered_budgets
from extracot_client.errors import ExtracotClientError, NotFoundError
from extracot_client.exchange import Core, base_models, make_core
from extracot_client.playground.session import remember, solution_row
from extracot_client.playground.text import to_markdown
from extracot_client.playground.views import (
    compare_cards,
    compare_charts,
    receipt_card,
    receipt_to_come,
    server_line,
    status,
)
from extracot_client.requests import SolveOptions
from extracot_client.sweeps import budget_key
from extracot_client.types import (
    AnswerDelta,
    BudgetCardPage,
    BudgetValue,
    Done,
    ReasoningDelta,
    SweepRow,
)

# A page need not be drawn more often than this; what comes in between is shown with the next.
SECONDS_BETWEEN_VIEWS = 0.06
NO_PROBLEM = "Type a problem first."


@dataclass(frozen=True, slots=True)
class SolveView:
    """The solve tab at one moment; ``session`` is ``None`` while nothing was added to it."""

    status: str
    reasoning: str = ""
    answer: str = ""
    running: bool = True
    session: list[SweepRow] | None = None


@dataclass(frozen=True, slots=True)
class CompareView:
    """The compare tab at one moment."""

    status: str
    cards: str = ""
    charts: str = ""
    running: bool = True
    session: list[SweepRow] | None = None


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


class Backend:
    """The server that the playground talks to. Raises ``ConfigurationError`` for a bad address."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float | None = None,
        model: str | None = None,
    ) -> None:
        self._core: Core = make_core(
            base_url,
            api_key,
            model=model,
            timeout=timeout,
            deadline=None,
            retry=None,
            headers=None,
            verify=True,
            max_connections=100,
            clock=None,
        )

    @property
    def url(self) -> str:
        """The server's address, fit to be shown."""
        return self._core.settings.shown_url

    def client(self) -> AsyncExtracot:
        """A client for one event: pools belong to the event loop they began in."""
        return AsyncExtracot.from_core(self._core)

    async def describe(self, model: str | None = None) -> ServerView:
        """The line under the heading, and the budgets worth comparing on ``model`` (default: the
        one that was asked for at the start, else the first)."""
        model = model or self._core.model
        models: list[str] = []
        try:
            async with self.client() as client:
                if self._core.model is None:
                    models = base_models(await client.models())
                model = model or next(iter(models), None)
                page = await client.budget_card(model)
        except NotFoundError:
            page = BudgetCardPage()  # Another OpenAI-compatible server: any ratio may do.
        except ExtracotClientError as error:
            return ServerView(
                status(f"{error}. Reload this page to try again.", kind="error"), reached=False
            )
        budgets = [budget_key(budget) for budget in offered_budgets(page)]
        return ServerView(
            server_line(page, self.url),
            budgets,
            auto="auto" in budgets,
            models=models if len(models) > 1 else [],
            model=model if len(models) > 1 else None,
        )

    async def solve(
        self,
        problem: str,
        budget: BudgetValue,
        session: Sequence[SweepRow],
        options: SolveOptions,
    ) -> AsyncGenerator[SolveView, None]:
        """Stream one reply."""
        if not problem.strip():
            yield SolveView(receipt_to_come(NO_PROBLEM, kind="error"), running=False)
            return
        yield SolveView(receipt_to_come("Waiting for the first token …", kind="busy"))
        reasoning, answer = "", ""
        loop = asyncio.get_running_loop()
        next_view = loop.time()
        try:
            async with (
                self.client() as client,
                client.stream(problem, budget=budget, **options) as stream,
            ):
                async for event in stream:
                    match event:
                        case ReasoningDelta(text):
                            reasoning += text
                        case AnswerDelta(text):
                            answer += text
                        case Done(solution):
                            row = solution_row(problem, budget, solution)
                            yield SolveView(
                                receipt_card(solution),
                                to_markdown(solution.reasoning),
                                to_markdown(solution.answer),
                                running=False,
                                session=remember(session, row),
                            )
                            return
                    if loop.time() >= next_view:
                        word = "Answering …" if answer else "Reasoning …"
                        yield SolveView(
                            receipt_to_come(word, kind="busy"),
                            to_markdown(reasoning),
                            to_markdown(answer),
                        )
                        next_view = loop.time() + SECONDS_BETWEEN_VIEWS
        except ExtracotClientError as error:
            yield SolveView(
                receipt_to_come(str(error), kind="error"),
                to_markdown(reasoning),
                to_markdown(answer),
                running=False,
            )

    async def compare(
        self,
        problem: str,
        budgets: Sequence[BudgetValue],
        session: Sequence[SweepRow],
        options: SolveOptions,
        *,
        together: bool,
    ) -> AsyncGenerator[CompareView, None]:
        """One problem at several budgets; the view grows by each reply that is whole."""
        if not problem.strip() or not budgets:
            text = NO_PROBLEM if budgets else "Choose at least one budget."
            yield CompareView(status(text, kind="error"), running=False)
            return
        names = [budget_key(budget) for budget in budgets]
        rows: dict[str, SweepRow] = {}
        kept = list(session)
        concurrency = len(budgets) if together else 1
        yield self._compare_view(names, rows)
        try:
            async with (
                self.client() as client,
                aclosing(
                    client.sweep([problem], budgets, concurrency=concurrency, **options)
                ) as source,
            ):
                async for row in source:
                    rows[budget_key(row.budget)] = row
                    kept = remember(kept, row)
                    yield self._compare_view(names, rows, kept)
        except ExtracotClientError as error:
            done = [rows[name] for name in names if name in rows]
            yield CompareView(
                status(str(error), kind="error"),
                compare_cards(done, []),
                compare_charts(done),
                running=False,
                session=kept,
            )

    def _compare_view(
        self, names: list[str], rows: dict[str, SweepRow], session: list[SweepRow] | None = None
    ) -> CompareView:
        done = [rows[name] for name in names if name in rows]
        missing = [name for name in names if name not in rows]
        failed = sum(row.error is not None for row in done)
        text = f"{len(done)} of {len(names)} replies" + (f", {failed} failed" if failed else "")
        return CompareView(
            status(text + (" …" if missing else ""), kind="busy" if missing else ""),
            compare_cards(done, missing),
            compare_charts(done),
            running=bool(missing),
            session=session,
        )
