"""``extracot calibrate``: measures a model that has no levels of its own, and writes its card."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from extracot import __version__
from extracot.answers import GRADER
from extracot.card import BudgetCard, LevelCard
from extracot.figures import ReplySummary
from extracot.sketch import LEAST_PROBLEMS
from extracot_client.base import only_model
from extracot_client.batches import (
    BOXED,
    QUESTION,
    Batch,
    check_failed,
    put,
    rows_file,
    run_batch,
)
from extracot_client.calibration import (
    NATIVE,
    NONE,
    Plan,
    baseline_bins,
    check_page,
    efforts_of,
    judged,
    levels_of,
    prompt_lengths,
)
from extracot_client.calibration_card import accuracy, in_order, make_card, undecided
from extracot_client.client import Extracot
from extracot_client.commands.common import (
    check_files,
    make_client,
    note,
    options_of,
    parse_budgets,
    print_json,
    read_problems_of,
)
from extracot_client.commands.kept_rows import open_rows
from extracot_client.errors import InvalidArgumentError, NotFoundError
from extracot_client.formatting import percent, tokens
from extracot_client.plots import draw_sweep
from extracot_client.sweep_files import RowStore
from extracot_client.sweeps import BudgetSummary, SweepProblem, mean, summarise
from extracot_client.terminal import Progress, Style, printable, table
from extracot_client.types import BudgetCardPage, SweepRow, number_at

_HEAD = ("level", "by", "n", "right", "95%", "reasoning", "of native", "remarks")
_ANSWER_TOKENS = 100.0
"""Assumed of an answer until some are measured."""
_AGAIN = "the same command goes on from there"


def run(arguments: argparse.Namespace) -> int:
    """Ask, keep, and write the card."""
    if arguments.url and arguments.base_url:
        raise InvalidArgumentError(
            f"--base-url {arguments.base_url}: the server is named already, {arguments.url}",
            param="base_url",
        )
    arguments.base_url = arguments.url or arguments.base_url
    out = Path(arguments.out)
    check_files(arguments, "out", "plot", read=arguments.problems)
    problems, name = _problems(arguments)
    with make_client(arguments) as client:
        page, plan = _plan(arguments, client, problems)
        kept = rows_file(out, "rows", page.model, page.prompt)
        with open_rows(kept, client, page.model, ratios=False, page=page) as store:
            _estimate(plan, store, page)
            if arguments.plan:
                return 0
            rows = _ask(client, plan, store, kept, arguments.concurrency)
    card = _card(page, plan, rows, name, arguments.prompt)
    card.save_as(out)
    _show(arguments, card, rows, out)
    return 0


def _problems(arguments: argparse.Namespace) -> tuple[list[SweepProblem], str]:
    """The problems that have a known answer, and what they are called on the card."""
    name = arguments.problems
    if name is None:
        name = "word_problems"
        shipped = files("extracot_client") / "data" / "word_problems.jsonl"
        found = read_problems_of(str(shipped), arguments.limit)
    else:
        found = read_problems_of(name, arguments.limit)
    graded = [one for one in found if one.answer is not None]
    if not graded:
        raise InvalidArgumentError(
            f"{name}: no problem has a known answer, and accuracy is measured by that",
            param="problems",
        )
    if len(graded) < len(found):
        note(f"{len(found) - len(graded)} of {len(found)} problems have no known answer: left out")
    return graded, Path(name).name


def _plan(
    arguments: argparse.Namespace, client: Extracot, problems: Sequence[SweepProblem]
) -> tuple[BudgetCardPage, Plan]:
    """What the server tells of the model, and what is asked of it. Refuses what cannot come out."""
    options = options_of(arguments)
    seed = options.pop("seed", None) or 0
    if arguments.seeds < 1:
        raise InvalidArgumentError("--seeds is 1 or more", param="seeds")
    model = options.get("model") or only_model(client.models())
    try:
        page = client.budget_card(model)
    except NotFoundError as error:
        if error.code == "model_not_found":
            raise
        raise InvalidArgumentError(
            f"{error}. A card is measured through an Extra-CoT server in front of the model"
        ) from None
    check_page(page)
    given = parse_budgets(arguments.ratios) if arguments.ratios.strip() else []
    ratios = [one for one in given if isinstance(one, float)]
    if len(ratios) < len(given):
        raise InvalidArgumentError(
            f"--ratios {arguments.ratios}: numbers in (0, 1], with commas", param="ratios"
        )
    efforts = efforts_of(page)
    if arguments.efforts is not None:
        efforts = [word.strip() for word in arguments.efforts.split(",") if word.strip()]
    if arguments.prompt is None:  # an instruction of the server's says where the answer goes
        told = page.prompt.get("instruction")
        arguments.prompt = QUESTION if told else BOXED
    plan = Plan(
        problems=put(problems, arguments.prompt),
        levels=levels_of(ratios, efforts),
        seeds=range(seed, seed + arguments.seeds),
        assumed=_assumed(page),
        options={**options, "model": model},
    )
    return page, plan


def _assumed(page: BudgetCardPage) -> float:
    """The server's own baseline, of which the ratios that it takes are shares."""
    measured = number_at(page.baseline, "measured_reasoning_tokens")
    assumed = number_at(page.baseline, "assumed_reasoning_tokens")
    return measured or assumed or 1.0


def _estimate(plan: Plan, store: RowStore, page: BudgetCardPage) -> None:
    """Say what it will cost, before it does."""
    native = [row for batch in plan.words() if batch.name == NATIVE for row in batch.kept(store)]
    reasoning = mean(row.reasoning_tokens for row in native)
    answer = mean(row.answer_tokens for row in native)
    known = "measured so far" if reasoning else "assumed; --plan again once native replies are in"
    reasoning = reasoning or plan.assumed
    total = plan.tokens(reasoning, answer or _ANSWER_TOKENS)
    each = f"{len(plan.problems)} problems x {len(plan.seeds)} seeds x {len(plan.levels) + 2}"
    asked_at = ", ".join([NATIVE, NONE, *(level.name for level in plan.levels)])
    note(f"{page.model}: {plan.requests:,} requests ({each}: {asked_at})")
    note(
        f"about {total:,} generated tokens, if a native reply reasons for {reasoning:.0f} ({known})"
    )


def _ask(
    client: Extracot, plan: Plan, store: RowStore, kept: Path, concurrency: int
) -> dict[str, list[SweepRow]]:
    """All rows by level, judged. Raises :class:`UnfinishedError` if some requests failed."""
    rows: dict[str, list[SweepRow]] = {}
    words = list(plan.words())
    done = sum(len(batch.kept(store)) for batch in words)
    progress, whole = Progress(sys.stderr, plan.requests, done=done), False

    def ask(batches: Sequence[Batch]) -> None:
        for batch in batches:
            there = 0 if batch.name in (NATIVE, NONE) else len(batch.kept(store))
            for _ in range(there):
                progress.step(batch.name)
            found = run_batch(client, batch, store, concurrency=concurrency, step=progress.step)
            rows.setdefault(batch.name, []).extend(judged(found, batch.name))

    try:
        ask(words)
        _check_failed(rows)
        bins, lengths = baseline_bins(rows[NATIVE]), prompt_lengths(rows[NATIVE])
        if not any(row.reasoning_tokens for row in rows[NATIVE]):
            raise InvalidArgumentError(
                "Natively the model reasons for 0 tokens, so there is nothing to be a share of: "
                "start the server with --open-think true if the model opens no block by itself, or "
                "with the --instruction, --profile or --think-start that it was trained with"
            )
        plan.check_reach(bins)
        ask(list(plan.of_levels(bins, lengths)))
        _check_failed(rows)
        whole = True
    finally:
        progress.close()
        if not whole:
            note(f"what was answered is in {kept}; {_AGAIN}")
    return rows


def _check_failed(rows: dict[str, list[SweepRow]]) -> None:
    every = [row for found in rows.values() for row in found]
    check_failed(every, "run the same command again, or leave such problems out")


def _card(
    page: BudgetCardPage, plan: Plan, rows: dict[str, list[SweepRow]], name: str, prompt: str
) -> BudgetCard:
    if (unsure := undecided(rows)) and all(accuracy(found) is None for found in rows.values()):
        raise InvalidArgumentError(
            f"{name}: the grader can judge none of the answers; it knows numbers, units and words, "
            "and no algebra",
            param="problems",
        )
    asked = "\n".join(f"{one.id}\t{one.question}\t{one.answer}" for one in plan.problems)
    sampling = {key: plan.options.get(key) for key in ("temperature", "top_p", "max_tokens")}
    return make_card(
        page,
        plan.levels,
        rows,
        baseline_bins(rows[NATIVE]),
        {
            "date": datetime.now(UTC).date().isoformat(),
            "dataset": name,
            "problems": len(plan.problems),
            "problems_sha256": hashlib.sha256(asked.encode("utf-8")).hexdigest(),
            "prompt": prompt,
            "seeds": list(plan.seeds),
            "sampling": {key: value for key, value in sampling.items() if value is not None},
            "grader": GRADER,
            "undecided": unsure,
            "client": __version__,
        },
        [one.question for one in plan.problems],
    )


def _show(
    arguments: argparse.Namespace,
    card: BudgetCard,
    rows: dict[str, list[SweepRow]],
    out: Path,
) -> None:
    names = [NATIVE, NONE, *(level.name for level in card.levels)]
    left_out = [name for name in rows if name not in names]
    if left_out:
        note(f"not on the card, because nothing reasons there: {', '.join(left_out)}")
    cut = sum(bool(row.cap_hit) or row.finish_reason == "length" for row in rows[NATIVE])
    if cut:
        note(f"{cut} of {len(rows[NATIVE])} native replies were cut off: the baseline is too short")
    if (n := card.levels[0].n or 0) < LEAST_PROBLEMS:
        note(
            f"measured on {n} problems: the intervals are wide, and with fewer than "
            f"{LEAST_PROBLEMS} the card claims no saving"
        )
    if arguments.plot:
        title = f"{card.model}: {card.levels[0].n} problems of {card.levels[0].dataset}"
        note(draw_sweep(_points(card, rows), Path(arguments.plot), title))
    if arguments.json:
        print_json(card.model_dump(mode="json"))
    else:
        style = Style.of(sys.stdout)
        print(table(_HEAD, _cells(card), style, left=2))
        if unsure := undecided(rows):
            print(style.dim(f"right: without {unsure} answers that the grader cannot judge"))
    note(f"card: {printable(str(out))}; serve it with --card {printable(str(out))}")


def _points(card: BudgetCard, rows: dict[str, list[SweepRow]]) -> list[BudgetSummary]:
    """The card's levels as points of a picture, native and none with them."""
    measured: dict[str, ReplySummary | LevelCard | None] = {NATIVE: card.native, NONE: card.none}
    measured |= {level.name: level for level in card.levels}
    paired = [
        row.model_copy(update={"problem_id": str(at)})
        for name in measured
        for at, row in enumerate(in_order(rows[name]))
    ]
    found = []
    for point in summarise(paired, list(measured)):
        of = measured[point.budget]
        if of is not None and of.accuracy is not None:
            low, high = of.accuracy.low, of.accuracy.high
            point = replace(point, accuracy_low=low, accuracy_high=high)
        found.append(point)
    return found


def _cells(card: BudgetCard) -> list[list[str]]:
    found = []
    for name, reply in ((NATIVE, card.native), (NONE, card.none)):
        if reply is not None:
            whole = card.native.reasoning.mean if card.native is not None else 0.0
            ratio = reply.reasoning.mean / whole if whole else None
            odd = name == NONE and reply.reasoned > 0
            remark = f"{percent(reply.reasoned)} of replies reason all the same" if odd else ""
            found.append([name, "", str(reply.n), *_right(reply), tokens(reply.reasoning.mean)])
            found[-1] += [percent(ratio), remark]
    for level in card.levels:
        whole = card.native.reasoning.mean if card.native is not None else 0.0
        remark = f"dominated by {level.dominated_by}" if level.dominated_by else ""
        found.append([level.name, level.enforced_by, str(level.n), *_right(level)])
        found[-1] += [tokens(level.expected_ratio * whole), percent(level.expected_ratio), remark]
    return found


def _right(measured: ReplySummary | LevelCard) -> tuple[str, str]:
    found = measured.accuracy
    if found is None:
        return "–", "–"
    return percent(found.mean), f"{100 * found.low:.0f}–{100 * found.high:.0f}"
