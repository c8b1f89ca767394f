"""Servers that get the same load in turns, and what one costs beside another, round by round.

A busy machine slows the sides of a round alike, so the ratio within a round is what is told: its
median over the rounds, and the range, which of seven rounds holds the true median 98 times in 100.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.harness import Load, Server, joined, measure, milliseconds, percentile, table
from benchmarks.paired import spread

Rounds = Mapping[str, Sequence[Load]]
"""The loads of each server by its name, in the order of rounds."""
HEAD = ("load", "server", "CPU µs / token", "tokens/s", "first ms p50 / p99")
HEAD += ("between events ms p50 / p99", "events / token", "engine busy", "client busy")
RATIO_HEAD = ("load", "sides", "CPU", "tokens/s", "first p50, ms more", "first p99, ms more")
RATIO_HEAD += ("between events p99, ms more",)


def take_rounds(
    servers: Sequence[Server], work: Sequence[bytes], rounds: int, *, repeats: int = 1
) -> Rounds:
    """The same requests to each server in every round, who begins changing; one to warm up."""
    found: dict[str, list[Load]] = {server.name: [] for server in servers}
    for server in servers:
        measure(server, work[:16])
    for number in range(rounds):
        for server in servers if number % 2 == 0 else reversed(servers):
            loads = [measure(server, work) for _ in range(repeats)]
            found[server.name].append(joined(loads))
    return found


def rows(name: str, found: Rounds) -> list[list[object]]:
    """A line for each server, all rounds together."""
    return [[name, server, *_cells(joined(loads))] for server, loads in found.items()]


def _cells(load: Load) -> list[object]:
    return [
        f"{1000 * load.cpu_per_thousand:.1f}",
        f"{load.tokens / load.wall:.0f}",
        milliseconds(load.first),
        milliseconds(load.gaps),
        f"{load.events / load.tokens:.2f}",
        f"{load.engine / load.wall:.2f}",
        f"{load.client / load.wall:.2f}",
    ]


def ratio_row(name: str, found: Rounds, ours: str, theirs: str) -> list[object]:
    """Ours over theirs within each round; times as differences."""
    pairs = list(zip(found[ours], found[theirs], strict=True))

    def more(times: Callable[[Load], Sequence[float]], share: float) -> str:
        found = [percentile(times(a), share) - percentile(times(b), share) for a, b in pairs]
        return spread([1000 * value for value in found], digits=1)

    return [
        name,
        f"{ours} / {theirs}",
        spread([a.cpu_per_thousand / b.cpu_per_thousand for a, b in pairs], digits=2),
        spread([a.tokens / a.wall * b.wall / b.tokens for a, b in pairs], digits=2),
        more(lambda load: load.first, 0.5),
        more(lambda load: load.first, 0.99),
        more(lambda load: load.gaps, 0.99),
    ]


def both_tables(all_rows: list[list[object]], ratios: list[list[object]]) -> str:
    """The figures, and the ratios under them."""
    return f"{table(HEAD, all_rows)}\n\n{table(RATIO_HEAD, ratios)}\n"
