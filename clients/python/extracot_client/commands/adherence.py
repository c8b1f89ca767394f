"""``extracot adherence``: how well servers keep to reasoning budgets, one table for all of them."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from extracot import __version__
from extracot.answers import GRADER
from extracot.errors import ControlTokenError
from extracot.files import write_atomic
from extracot.reasoning import ThinkTags
from extracot_client.adherence import DEFAULT_SHARES, Run, Server, check_field
from extracot_client.adherence_figures import (
    DEFINITION,
    Count,
    Figures,
    Reply,
    figures,
    means,
    opens_block,
    read_reply,
)
from extracot_client.adherence_plot import draw_adherence
from extracot_client.base import only_model
from extracot_client.batches import BOXED, Batch, check_failed, put, rows_file, run_batch
from extracot_client.client import Extracot
from extracot_client.commands.common import (
    check_files,
    note,
    options_of,
    print_json,
    read_problems_of,
)
from extracot_client.commands.kept_rows import open_rows
from extracot_client.errors import InvalidArgumentError
from extracot_client.formatting import percent, seconds, tokens
from extracot_client.intervals import Estimate
from extracot_client.sweep_files import RowStore
from extracot_client.terminal import Progress, Style, printable, table
from extracot_client.types import SweepRow

_HEAD = (
    *("server", "asked", "n", "failed", "realised", "±10%", "binding", "over"),
    *("right", "95%", "to first", "escapes", "kept", "to first"),
    *("empty", "answer", "reported", "first"),
)
_AGAIN = "the same command goes on from there"


@dataclass(slots=True)
class _Measured:
    """One server's rows: natively, and by cap."""

    server: Server
    native: list[SweepRow] = field(default_factory=list)
    capped: dict[int, list[SweepRow]] = field(default_factory=dict)

    @property
    def rows(self) -> list[SweepRow]:
        """All of them."""
        return [*self.native, *(row for rows in self.capped.values() for row in rows)]


def run(arguments: argparse.Namespace) -> int:
    """Ask every server the same, keep the rows, and say what came of it; 1 if requests failed."""
    out = Path(arguments.out)
    check_files(arguments, "out", "plot", read=arguments.problems)
    if arguments.base_url:
        raise InvalidArgumentError("--base-url: name the servers as arguments", param="base_url")
    caps = _caps(arguments.caps)
    count, tags = _counter(arguments.tokenizer), _tags(arguments)
    name = arguments.problems or str(files("extracot_client") / "data" / "word_problems.jsonl")
    problems = put(read_problems_of(name, arguments.limit), arguments.prompt or BOXED)
    if arguments.seeds < 1:
        raise InvalidArgumentError("--seeds is 1 or more", param="seeds")
    options = options_of(arguments)
    first_seed = options.pop("seed", None) or 0
    options.pop("model", None)
    asked = Run(problems, range(first_seed, first_seed + arguments.seeds), options)
    measured: list[_Measured] = []
    for server, key in _servers(arguments):
        with _client(arguments, server.url, key) as client:
            kept = rows_file(out, _slug(server.name), server.url, server.model, server.field)
            with open_rows(kept, client, server.model, ratios=False) as store:
                found = _ask(arguments, client, server, asked, caps, store, kept, count, tags)
        caps = list(found.capped)
        measured.append(found)
    every = list(_figures(measured, count, tags))
    report = _report(arguments, Path(name).name, asked, measured, every, tags)
    write_atomic(out, json.dumps(report, ensure_ascii=False, indent=2) + "\n")
    _show(arguments, every, report, count)
    note(f"report: {printable(str(out))}")
    return _tell_failed(measured)


def _tell_failed(measured: Sequence[_Measured]) -> int:
    """How many requests failed and why the first did; 1 if there are any."""
    rows = [(one.server.name, row) for one in measured for row in one.rows]
    failed = [(name, row) for name, row in rows if row.error is not None]
    if failed:
        name, row = failed[0]
        note(f"{len(failed)} of {len(rows)} requests failed; the same command asks them again")
        note(f"first: {name}, problem {row.problem_id}: {row.error}")
    return int(bool(failed))


def _caps(text: str | None) -> list[int]:
    try:
        found = [] if text is None else [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = [0]
    if any(cap < 1 for cap in found):
        raise InvalidArgumentError(f"--caps {text}: numbers of tokens, 1 or more", param="caps")
    return sorted(set(found))


def _tags(arguments: argparse.Namespace) -> ThinkTags:
    try:
        return ThinkTags(arguments.think_start, arguments.think_end)
    except ControlTokenError as error:
        raise InvalidArgumentError(f"--think-start, --think-end: {error}") from None


def _counter(path: str | None) -> Count | None:
    """Counts with a tokenizer.json, in a folder or by its name."""
    if path is None:
        return None
    file = Path(path)
    file = file / "tokenizer.json" if file.is_dir() else file
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise InvalidArgumentError(
            "--tokenizer needs the package tokenizers (pip install 'extracot[recount]')",
            param="tokenizer",
        ) from None
    try:
        tokenizer = Tokenizer.from_buffer(file.read_bytes())
    except OSError:
        raise
    except Exception as error:  # the library's own errors have no class of their own
        raise InvalidArgumentError(
            f"--tokenizer {file}: {' '.join(str(error).split())}", param="tokenizer"
        ) from None
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _each(arguments: argparse.Namespace, option: str, default: str | None) -> list[str | None]:
    """An option that is given once for all servers, or once for each in their order. A key is never
    for all."""
    given = list(getattr(arguments, option) or [default])
    count = len(arguments.urls)
    shared = len(given) == 1 and (option != "key_from" or given == [default])
    if not shared and len(given) != count:
        flag, all_ = option.replace("_", "-"), "" if option == "key_from" else "once, or "
        raise InvalidArgumentError(
            f"--{flag} is there {len(given)} times; want it {all_}once for each of the {count} "
            "servers in their order",
            param=option,
        )
    return given * count if shared else given


def _servers(arguments: argparse.Namespace) -> list[tuple[Server, str]]:
    """The servers in their order, each with its key; all are looked up before any is asked."""
    names = list(arguments.name or [re.sub(r"^https?://", "", url) for url in arguments.urls])
    fields = [check_field(text or "") for text in _each(arguments, "field", "extracot")]
    models, keys = _each(arguments, "model", None), _each(arguments, "key_from", None)
    if len(names) != len(arguments.urls) or len(set(names)) < len(names):
        raise InvalidArgumentError(
            f"--name: want {len(arguments.urls)} different names, one for each server", param="name"
        )
    found: list[tuple[Server, str]] = []
    for name, url, said, model, variable in zip(
        names, arguments.urls, fields, models, keys, strict=True
    ):
        key = _key(arguments, variable, only=len(names) == 1)
        if model is None:
            with _client(arguments, url, key) as client:
                model = only_model(client.models())
        found.append((Server(name, url, model, said), key))
    return found


def _client(arguments: argparse.Namespace, url: str, key: str) -> Extracot:
    most = max(100, arguments.concurrency)
    return Extracot(url, key, timeout=arguments.timeout, max_connections=most)


def _key(arguments: argparse.Namespace, variable: str | None, *, only: bool) -> str:
    """The server's key; that of one server is never sent to another one."""
    if variable == "-":
        return ""
    if variable is not None:
        if not (key := os.environ.get(variable)):
            raise InvalidArgumentError(f"--key-from {variable}: it is not set", param="key_from")
        return key
    return (arguments.api_key or os.environ.get("EXTRACOT_API_KEY") or "") if only else ""


def _slug(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name)[:40]


def _ask(
    arguments: argparse.Namespace,
    client: Extracot,
    server: Server,
    asked: Run,
    caps: Sequence[int],
    store: RowStore,
    kept: Path,
    count: Count | None,
    tags: ThinkTags,
) -> _Measured:
    """All rows of one server; the first server's native replies say what the caps are, if none
    are named."""
    found, whole = _Measured(server), False
    total = asked.replies * (1 + (len(caps) or len(DEFAULT_SHARES)))
    progress = Progress(sys.stderr, total)

    def rows(batches: Iterator[Batch]) -> list[SweepRow]:
        made: list[SweepRow] = []
        for batch in batches:
            for _ in batch.kept(store):
                progress.step(batch.name)
            made += run_batch(
                client, batch, store, concurrency=arguments.concurrency, step=progress.step
            )
        return made

    note(f"{server.name}: {total:,} requests of {server.model} ({server.field})")
    try:
        found.native = rows(asked.native(server))
        for cap in caps or _shares_of(found.native, count, tags):
            found.capped[cap] = rows(asked.capped(server, cap))
        whole = True
    finally:
        progress.close()
        if not whole:
            note(f"what was answered is in {kept}; {_AGAIN}")
    return found


def _shares_of(rows: Sequence[SweepRow], count: Count | None, tags: ThinkTags) -> list[int]:
    """Caps that are shares of the mean native reasoning: of all of it, since other caps would ask
    everything anew. Raises :class:`UnfinishedError` while some requests have failed."""
    check_failed(
        rows, "caps are shares of what all reason for: run the same command again, or give --caps"
    )
    opened = opens_block(rows, tags)
    replies = [read_reply(row, count, tags, opened=opened) for row in rows]
    known = [reply.realised for reply in replies if reply.realised is not None]
    mean = sum(known) / len(known) if known else 0.0
    if not mean:
        raise InvalidArgumentError(
            "The server does not tell how long replies reason without a budget: give --caps, or "
            "--tokenizer to count with",
            param="caps",
        )
    return sorted({max(1, round(part * mean)) for part in DEFAULT_SHARES})


def _figures(
    measured: Sequence[_Measured], count: Count | None, tags: ThinkTags
) -> Iterator[Figures]:
    first: dict[int | None, list[Reply]] = {}
    for one in measured:
        opened = opens_block(one.rows, tags)
        native = means(_replies(one.native, count, tags, opened), lambda reply: reply.realised)
        for cap, rows in ((None, one.native), *one.capped.items()):
            yield figures(
                one.server.name,
                cap,
                rows,
                native=native,
                first=None if one is measured[0] else first[cap],
                count=count,
                tags=tags,
                opened=opened,
            )
            if one is measured[0]:
                first[cap] = _replies(rows, count, tags, opened)


def _replies(
    rows: Sequence[SweepRow], count: Count | None, tags: ThinkTags, opened: bool
) -> list[Reply]:
    return [read_reply(row, count, tags, opened=opened) for row in rows if row.error is None]


def _report(
    arguments: argparse.Namespace,
    name: str,
    asked: Run,
    measured: Sequence[_Measured],
    every: Sequence[Figures],
    tags: ThinkTags,
) -> dict[str, Any]:
    return {
        "definition": DEFINITION,
        "date": datetime.now(UTC).date().isoformat(),
        "client": __version__,
        "grader": GRADER,
        "problems": {"name": name, "n": len(asked.problems), "prompt": arguments.prompt or BOXED},
        "seeds": list(asked.seeds),
        "sampling": {key: value for key, value in asked.options.items() if value is not None},
        "concurrency": arguments.concurrency,
        "tokenizer": arguments.tokenizer and Path(arguments.tokenizer).name,
        "think_tags": [tags.start, tags.end],
        "servers": [
            {"name": one.server.name, "model": one.server.model, "field": one.server.field}
            for one in measured
        ],
        "figures": [one.to_dict() for one in every],
    }


def _show(
    arguments: argparse.Namespace,
    every: Sequence[Figures],
    report: dict[str, Any],
    count: Count | None,
) -> None:
    if arguments.plot:
        title = f"{report['problems']['n']} problems of {report['problems']['name']}"
        note(draw_adherence(every, Path(arguments.plot), title))
    if arguments.json:
        print_json(report)
        return
    style = Style.of(sys.stdout)
    print(table(_HEAD, [_cells(one) for one in every], style))
    if count is None:
        print(style.dim("realised: as the server reports it; --tokenizer recounts it"))
    if unsure := sum(one.undecided for one in every):
        print(style.dim(f"right: without {unsure} answers that the grader cannot judge"))


def _cells(one: Figures) -> list[str]:
    def part(found: Estimate | None) -> str:
        return percent(None if found is None else found.mean)

    def gain(found: Estimate | None) -> str:
        return "–" if found is None else f"{100 * found.low:+.0f} to {100 * found.high:+.0f}"

    right = one.accuracy
    return [
        printable(one.server),
        "native" if one.requested is None else str(one.requested),
        str(one.n),
        str(one.failed),
        tokens(None if one.realised is None else one.realised.mean),
        part(one.within),
        part(one.within_binding),
        part(one.over),
        part(right),
        "–" if right is None else f"{100 * right.low:.0f}–{100 * right.high:.0f}",
        gain(one.accuracy_to_first),
        part(one.escapes),
        part(one.kept),
        gain(one.kept_to_first),
        part(one.empty),
        tokens(one.answer_tokens),
        tokens(one.reported),
        seconds(one.first_answer_p50),
    ]
