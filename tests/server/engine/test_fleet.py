"""Which upstream gets a request: shares by weight, exactly, and the least busy first."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from fractions import Fraction

import pytest

from extracot_server.engine.remote.fleet import Turns, lightest


@dataclass
class Server:
    weight: int
    in_flight: int = 0
    turn: Fraction = field(default_factory=Fraction)
    last_used: int = 0


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (5, 3, 2), (1000, 1), (7, 7, 1)], ids=str)
def test_one_request_at_a_time_is_shared_exactly_by_weight(weights: tuple[int, ...]) -> None:
    servers = [Server(weight) for weight in weights]
    turns, counts = Turns(), dict.fromkeys(range(len(weights)), 0)
    rounds = 3
    for index in range(rounds * sum(weights)):
        counts[servers.index(turns.choose(servers))] += 1
        if (index + 1) % sum(weights) == 0:
            done = (index + 1) // sum(weights)
            assert list(counts.values()) == [done * weight for weight in weights]


@pytest.mark.parametrize("parallel", [2, 5, 40])
def test_many_at_once_are_shared_by_weight_however_long_they_take(parallel: int) -> None:
    draw = random.Random(parallel)
    servers = [Server(5), Server(3), Server(2)]
    turns, running, counts = Turns(), [], [0, 0, 0]
    for _ in range(6000):
        if len(running) == parallel:  # one that runs ends, whichever
            running.pop(draw.randrange(parallel)).in_flight -= 1
        chosen = turns.choose(servers)
        chosen.in_flight += 1
        running.append(chosen)
        counts[servers.index(chosen)] += 1
    shares = [count / sum(counts) for count in counts]
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.06)


def test_equal_weights_are_the_least_busy_and_of_these_the_one_idle_longest() -> None:
    draw, turns = random.Random(7), Turns()
    servers = [Server(1) for _ in range(4)]
    for _ in range(2000):
        for server in servers:
            server.in_flight = draw.randrange(4)
        least = min(server.in_flight for server in servers)
        assert turns.choose(servers).in_flight == least
    for server in servers:
        server.in_flight = 0
    order = [turns.choose(servers) for _ in range(8)]
    assert order[:4] == order[4:] and len({id(server) for server in order}) == 4


def test_a_busy_heavy_server_gives_way_and_an_idle_light_one_does_not_shut_it_out() -> None:
    heavy, light = Server(5, in_flight=5), Server(1)
    assert lightest([heavy, light]) == [light]
    heavy.in_flight = 1
    assert lightest([heavy, light]) == [heavy, light]
    light.in_flight = 1
    assert lightest([heavy, light]) == [heavy]


def test_one_that_comes_back_has_nothing_to_catch_up_on() -> None:
    a, b, turns = Server(1), Server(1), Turns()
    for _ in range(100):
        turns.choose([a])
    got = [turns.choose([a, b]) for _ in range(10)]
    assert got.count(b) == 5
