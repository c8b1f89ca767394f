"""The playground without a browser: text, charts and sums; its events against the real app."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from extracot_client import ConfigurationError, ServerError, SweepRow
from extracot_client.commands.common import offered_budgets
from extracot_client.playground.backend import Backend
from extracot_client.playground.charts import Bar, Chart, draw, table
from extracot_client.playground.compare_views import compare_charts, compare_table, judgements
from extracot_client.playground.markdown import spans, to_html, to_markdown
from extracot_client.playground.security import OwnServerOnly
from extracot_client.playground.session import realised_ratios, remember, session_totals
from extracot_client.playground.stop import Runs
from extracot_client.playground.views import NOTHING_YET, example_labels, savings_page
from extracot_client.types import BudgetCardPage
from tests.clients.conftest import LiveServer

PROBLEM = "What is 12 * 12?"
PIECES = st.sampled_from(
    ["$", "$$", "\\(", "\\)", "\\[", "\\]", "\\boxed{", "{", "}", "`", "```", "x", " ", "5", "<b>"]
)


def row(budget: float | str = 0.4, **given: object) -> SweepRow:
    """A row with the numbers of a healthy reply at a measured baseline of 100 tokens."""
    values: dict[str, object] = {
        "problem_id": "p",
        "budget": budget,
        "fingerprint": "f",
        "question": PROBLEM,
        "answer": "It is \\boxed{144}.",
        "reasoning": "Twelve times twelve.",
        "boxed": "144",
        "level": str(budget),
        "reasoning_tokens": 35,
        "answer_tokens": 9,
        "completion_tokens": 46,
        "baseline_tokens": 100.0,
        "baseline_source": "card",
        "saved_tokens_estimate": 65.0,
        "ttft": 0.05,
        "first_answer": 0.4,
        "total": 0.5,
        **given,
    }
    return SweepRow.model_validate(values)


def test_the_package_mounts_and_imports_gradio_only_then() -> None:
    code = (
        "import sys; from extracot_client import playground; assert 'gradio' not in sys.modules;"
        "from extracot_client.playground import mount, build_playground; print(mount.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "extracot_client.playground.page"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a price of $5 and $6", "a price of $5 and $6"),
        ("$x$, $$y$$", "\\(x\\), \\[y\\]"),
        ("\\(x\\) \\[y\n\n+ 1\\]", "\\(x\\) \\[y + 1\\]"),
        ("so \\boxed{\\frac{1}{2}}.", "so \\(\\boxed{\\frac{1}{2}}\\)."),
        ("$\\boxed{7}$", "\\(\\boxed{7}\\)"),
        ("on its way: \\boxed{\\frac{1", "on its way: \\boxed{\\frac{1"),
        ("`$x$` and ```\n$y$", "`$x$` and ```\n$y$"),
        ("<script>x</script> 1 < 2", "&lt;script>x&lt;/script> 1 < 2"),
        ("![a](http://example.com/a.png)", "&#33;[a](http://example.com/a.png)"),
        ("<!-- c -->", "&lt;!-- c -->"),
    ],
)
def test_a_reply_as_markdown(text: str, shown: str) -> None:
    assert to_markdown(text) == shown


def test_a_reply_inside_html_is_one_line_and_escaped() -> None:
    made = to_html('one <img src="http://example.com/x">\n\n$a<b$\n`<i>`\n')
    assert "\n" not in made and "<img" not in made and "<i>" not in made
    assert "\\(a&lt;b\\)" in made and "<br><br>" in made and "<code>&lt;i&gt;</code>" in made


@given(st.lists(PIECES, max_size=40).map("".join))
def test_no_text_is_lost_and_no_tag_gets_through(text: str) -> None:
    marks = re.compile(r"\$|\\[()\[\]]")
    found = spans(text)
    assert marks.sub("", "".join(span.text for span in found)) == marks.sub("", text)
    assert all(span.text for span in found)
    assert "<b>" not in to_markdown(text)


MARKS = st.sampled_from(
    [
        *("`", "``", "```", "```\n", "\n```", "~~~\n", "\\", "\n", "\n\n", "    ", "- ", "> ", " "),
        *("![a](b.png)", "!", "[a](b.png)", "[a]: b.png\n", "<b>", "<", "b>", "$", "\\(", "\\)"),
    ]
)


@given(st.lists(MARKS, max_size=14).map("".join))
def test_a_page_loads_nothing_of_a_reply_however_it_is_read(text: str) -> None:
    """Also where CommonMark ends its code elsewhere than :func:`spans` does."""
    page = MarkdownIt("commonmark").render(to_markdown(text))
    assert "<img" not in page and "<b>" not in page


def test_a_chart_has_its_numbers_as_text_and_its_widest_bar_fills_it() -> None:
    bars = (Bar("0.2", (10.0, 5.0), "10 + 5"), Bar("<x>", (30.0, 0.0), "30 + 0", tick=15.0))
    made = draw(Chart("Tokens", ("reasoning", "answer"), bars, tick="asked"))
    assert re.findall(r"width:([\d.]+)%", made) == ["33.33", "16.67", "100.00", "0.00"]
    assert "left:50.00%" in made and "10 + 5" in made and "&lt;x&gt;" in made
    assert draw(Chart("Tokens", ("reasoning",), ())) == ""
    assert draw(Chart("Nothing", ("a",), (Bar("none", (0.0,), "0"),))).count("width:0.00%") == 1


def test_a_table_names_its_columns_and_rows() -> None:
    made = table(("budget", "n"), [("<0.2>", "1")], "Numbers")
    assert (
        '<th scope="row">&lt;0.2&gt;</th><td data-name="n">1</td>' in made
        and "<caption>Numbers" in made
    )


def test_a_session_adds_up() -> None:
    rows = [
        row(0.4),
        row(0.4, reasoning_tokens=45, saved_tokens_estimate=55.0),
        row(0.2, reasoning_tokens=130, saved_tokens_estimate=-30.0),
        row("native", reasoning_tokens=100, completion_tokens=111, saved_tokens_estimate=None),
        row(0.6, error="ServerError: broke", saved_tokens_estimate=None),
    ]
    totals = session_totals(rows)
    assert (totals.replies, totals.reasoning_tokens) == (4, 310)
    assert (totals.saved, totals.saved_reasoning) == (3 * 65.0, 65.0 + 55.0 - 30.0)
    assert (totals.measured, totals.estimated) == (3, 0)
    realised = [(entry.budget, entry.n, entry.realised) for entry in realised_ratios(rows)]
    assert realised == [("0.2", 1, 1.3), ("0.4", 2, 0.4), ("native", 1, 1.0)]
    page = savings_page(rows)
    assert "40%, 40% requested, 2 replies" in page and "1 reply has no saving" in page


def test_a_session_without_native_replies_has_the_servers_estimates() -> None:
    totals = session_totals([row(total_saved_tokens_estimate=60.0), row(0.2, no_saving="x")])
    assert (totals.saved, totals.saved_reasoning) == (60.0, 130.0)
    assert (totals.measured, totals.estimated) == (0, 2)
    assert "≈ 60" in savings_page([row(total_saved_tokens_estimate=60.0)])


def test_agreement_is_among_the_others_and_a_known_answer_settles_it() -> None:
    rows = [
        row(0.2),
        row(0.4, boxed="144.0"),
        row(0.6, boxed="143"),
        row(0.8, boxed=None, answer=""),
        row("auto", error="ServerError: broke"),
    ]
    assert judgements(rows) == ["= 1 of 2 others", "= 1 of 2 others", "= 0 of 2 others", "", ""]
    told = [row(0.2, correct=True), row(0.4, boxed="143", correct=False)]
    assert judgements(told) == ["✓ right", "× wrong"]
    assert judgements([row(0.2)]) == [""]


def test_replies_take_their_places_in_the_table() -> None:
    names = ["0.2", "native", "none"]
    made = compare_table(names, {"native": row("native", level="native")})
    assert [made.index(f'row">{name}<') for name in names] == sorted(
        made.index(f'row">{name}<') for name in names
    )
    assert made.count("…") == 2 * 9 and "nothing is claimed" in made
    failed = compare_table(["0.2"], {"0.2": row(0.2, error="ServerError:  <b>")})
    assert "ServerError: &lt;b&gt;" in failed and ">failed<" in failed
    long = row(0.2, boxed=None, answer="word " * 30)
    assert "…</td>" in compare_table(["0.2"], {"0.2": long})


def test_an_assumed_baseline_saves_nothing_and_says_so() -> None:
    page = savings_page([row(saved_tokens_estimate=None, baseline_source="assumed")])
    assert "35%*" in page and "not a measurement" in page and "≈" not in page
    assert savings_page([]) == NOTHING_YET


def test_the_session_keeps_numbers_only() -> None:
    (kept,) = remember([], row())
    assert (kept.question, kept.answer, kept.reasoning) == ("", None, None)
    assert kept.reasoning_tokens == 35


def test_only_whole_replies_are_plotted() -> None:
    assert compare_charts(["0.4"], {"0.4": row(error="ServerError: broke")}) == ""
    rows = {"0.2": row(0.2), "none": row("none", first_answer=None, reasoning_tokens=0)}
    made = compare_charts(["0.2", "native", "none"], rows)
    assert "35 + 9" in made and "500 ms (answer after –)" in made
    assert made.count(">native<") == 2 and made.count(">…<") == 2


def test_a_server_without_a_card_is_offered_the_usual_ratios() -> None:
    assert offered_budgets(BudgetCardPage())[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]


@pytest.mark.anyio
async def test_the_backend_describes_a_server(live: LiveServer, no_server: str) -> None:
    view = await Backend(live.url).describe()
    assert view.reached and view.auto and "trained levels 0.2, 0.4" in view.line
    assert view.budgets == ["0.2", "0.4", "0.6", "0.8", "1", "auto", "native", "none"]
    gone = await Backend(no_server).describe()
    assert not gone.reached and 'role="alert"' in gone.line
    with pytest.raises(ConfigurationError):
        Backend("ftp://example.com")


@pytest.mark.anyio
async def test_solving_ends_with_a_summary_and_a_row(live: LiveServer) -> None:
    views = [view async for view in Backend(live.url).solve(PROBLEM, 0.2, [], {})]
    assert "Waiting" in views[0].status and views[0].running
    last = views[-1]
    assert not last.running and "saved ≈" in last.status and "\\(\\boxed{" in last.answer
    assert last.session is not None and last.session[0].budget == 0.2


@pytest.mark.anyio
async def test_what_cannot_be_asked_is_said(live: LiveServer, no_server: str) -> None:
    for backend, problem, budget, said in (
        (Backend(live.url), "  ", 0.2, "Type a problem first"),
        (Backend(live.url), PROBLEM, 7.0, "param budget"),
        (Backend(no_server), PROBLEM, 0.2, no_server),
    ):
        last = [view async for view in backend.solve(problem, budget, [], {})][-1]
        assert said in last.status and 'role="alert"' in last.status and not last.running
    compared = [
        view async for view in Backend(live.url).compare(PROBLEM, [], [], {}, together=True)
    ]
    assert "at least one budget" in compared[-1].status
    compared = [
        view async for view in Backend(live.url).compare(PROBLEM, [7.0], [], {}, together=True)
    ]
    assert "param budget" in compared[-1].status and not compared[-1].running


@pytest.mark.anyio
@pytest.mark.parametrize("together", [True, False])
async def test_comparing_grows_by_each_reply(live: LiveServer, together: bool) -> None:
    backend = Backend(live.url)
    views = [
        view async for view in backend.compare(PROBLEM, [0.2, "native"], [], {}, together=together)
    ]
    assert [view.status.count("of 2 replies") for view in views] == [1, 1, 1]
    last = views[-1]
    assert not last.running and last.cards.count("<section") == 2 and "<figure" in last.charts
    assert last.session is not None and len(last.session) == 2


@pytest.mark.anyio
async def test_leaving_early_aborts_on_the_server(slow: LiveServer) -> None:
    backend = Backend(slow.url)
    async with aclosing(backend.solve(PROBLEM, "native", [], {})) as views:
        async for view in views:
            if view.reasoning:
                break
    async with aclosing(backend.compare(PROBLEM, [0.2, 0.4], [], {}, together=True)) as compared:
        reading = asyncio.ensure_future(anext(compared))
        await reading
        waiting = asyncio.ensure_future(anext(compared))
        while await asyncio.to_thread(slow.in_flight) < 2:
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.to_thread(slow.wait_until, lambda: slow.in_flight() == 0)


async def counting(upto: int, ended: list[int]) -> AsyncGenerator[int, None]:
    """1, 2, …, then waits for ever; notes where it was left."""
    count = 0
    try:
        for count in range(1, upto + 1):
            yield count
            await asyncio.sleep(0)
        if upto == 9:
            raise ServerError("broke")
        await asyncio.Event().wait()
    finally:
        ended.append(count)


@pytest.mark.anyio
async def test_a_stopped_run_says_so_last_and_its_source_is_closed() -> None:
    runs: Runs[int] = Runs()
    ended: list[int] = []
    seen: list[int] = []
    async for view in runs.views("here", counting(3, ended), lambda last: -last):
        seen.append(view)
        if view == 3:
            runs.stop("elsewhere")
            runs.stop("here")
    assert seen[-2:] == [3, -3] and ended == [3]
    runs.stop("here")


@pytest.mark.anyio
async def test_a_run_that_is_left_or_fails_ends_its_source() -> None:
    runs: Runs[int] = Runs()
    ended: list[int] = []
    async with aclosing(runs.views("here", counting(3, ended), lambda last: -last)) as views:
        assert await anext(views) in (1, 2, 3)
    assert len(ended) == 1
    with pytest.raises(ServerError):
        async for _ in runs.views("here", counting(9, ended), lambda last: -last):
            pass
    assert ended[-1] == 9


@pytest.mark.anyio
async def test_the_policy_is_on_pages_and_leaves_streams_alone() -> None:
    sent: list[dict[str, object]] = []

    async def page(scope: object, receive: object, send: object) -> None:
        assert callable(send)
        kind = b"text/html; charset=utf-8" if scope["path"] == "/" else b"text/event-stream"  # type: ignore[index]
        headers = [(b"content-type", kind), (b"content-length", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"<link rel=", "more_body": True})
        await send({"type": "http.response.body", "body": b'"manifest" href="/manifest.json" />'})

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    app = OwnServerOnly(page)  # type: ignore[arg-type]
    await app({"type": "http", "path": "/"}, None, send)  # type: ignore[arg-type]
    start, body = sent
    headers = dict(start["headers"])  # type: ignore[call-overload]
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert body["body"] == b'<link rel="icon" href="favicon.ico" />'
    assert headers[b"content-length"] == b"38"
    sent.clear()
    await app({"type": "http", "path": "/stream"}, None, send)  # type: ignore[arg-type]
    assert len(sent) == 3 and len(sent[0]["headers"]) == 2  # type: ignore[arg-type]


def test_examples_that_begin_alike_are_listed_by_their_ends() -> None:
    story = "Ben plants 6 rows of 2 lettuces, and Samir buys 4 stickers at 2 dollars each. "
    asked = [story + "How many lettuces are there?", story + "Add both results.", "What is 1 + 1?"]
    labels = example_labels(asked)
    assert labels[0].startswith("…") and labels[0].endswith("How many lettuces are there?")
    assert labels[1].endswith("Add both results.") and labels[2] == asked[2]
    assert len(set(labels)) == 3 and all(len(label) <= 56 for label in labels)
    assert example_labels([story, "What?"])[0] == story[:55] + "…"
    assert example_labels([]) == []
