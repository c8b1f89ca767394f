"""A canary's arithmetic: who is on which side, and intervals that cover, also where requests of a
conversation are alike."""

from __future__ import annotations

import random

import pytest

from extracot_server.budget.canary import (
    BUCKETS,
    MIN_BUCKETS,
    Comparison,
    Side,
    draw,
)
from extracot_server.budget.holdout import MIN_FOR_INTERVAL, Moments, saving_between


def test_a_side_is_the_same_everywhere_and_grows_with_the_share() -> None:
    names = [f"conversation {number}" for number in range(4000)]

    def canaries(share: float, *seed: str) -> set[str]:
        return {name for name in names if draw(share, *seed, name)[0] is Side.CANARY}

    few, more = canaries(0.05, "c", "key"), canaries(0.2, "c", "key")
    assert few < more, "who was the canary's stays it"
    assert len(few) == pytest.approx(200, abs=50) and len(more) == pytest.approx(800, abs=100)
    assert len(canaries(0.2, "c", "other key") & more) == pytest.approx(160, abs=50)
    assert len(canaries(0.2, "another canary", "key") & more) == pytest.approx(160, abs=50)
    assert canaries(1.0, "c") == set(names)
    # What is written down here holds between versions: a restart must move nobody.
    assert draw(0.05, "canary", "", "hello") == (Side.STABLE, 33)
    assert {draw(0.5, name)[1] for name in names} == set(range(BUCKETS))


def test_units_of_one_request_in_buckets_of_their_own_give_the_holdouts_interval() -> None:
    lengths = random.Random(3)
    comparison, sides = Comparison(), {side: Moments() for side in Side}
    for bucket in range(BUCKETS):
        for side in Side:
            tokens = lengths.gammavariate(2.0, 100.0)
            sides[side].add(tokens)
            comparison.add(side, bucket, {"replies": 1, "reasoning_tokens": tokens})
    expected = saving_between(sides[Side.CANARY], sides[Side.STABLE])
    found = comparison.difference("reasoning_tokens")
    assert expected is not None and found is not None
    assert found == pytest.approx((expected.mean, expected.low, expected.high))


@pytest.mark.parametrize("alike", [0.0, 1.0], ids=["independent", "chains"])
def test_the_interval_covers_also_where_a_chain_is_alike(alike: float) -> None:
    """Chains of eight requests. Taken as independent, intervals of chains would be much too
    narrow: the holdout's own, of the same numbers, covers far less often."""
    runs, truth, covered, naive = 100, 40.0, 0, 0
    for seed in range(runs):
        lengths = random.Random(seed)
        comparison, sides = Comparison(), {side: Moments() for side in Side}
        for chain in range(160):
            side, bucket = draw(0.4, str(seed), str(chain))
            own = lengths.gauss(0, 80) * alike
            for _ in range(8):
                shift = truth if side is Side.CANARY else 0.0
                tokens = 300 + own + lengths.gauss(0, 40) + shift
                sides[side].add(tokens)
                comparison.add(side, bucket, {"replies": 1, "reasoning_tokens": tokens})
        found = comparison.difference("reasoning_tokens")
        plain = saving_between(sides[Side.CANARY], sides[Side.STABLE])
        assert found is not None and plain is not None
        covered += found.low <= truth <= found.high
        naive += plain.low <= truth <= plain.high
    assert 0.88 <= covered / runs <= 0.99
    if alike:
        assert naive / runs < 0.7


def test_a_share_without_an_event_is_not_known_to_be_zero() -> None:
    comparison = Comparison()
    for bucket in range(12):
        for side in Side:
            comparison.add(side, bucket, {"requests": 1})
    found = comparison.difference("error")
    assert found is not None
    assert found.mean == 0 and found.low < -0.1 and found.high > 0.1


def test_nothing_is_said_before_there_is_enough_on_both_sides() -> None:
    comparison = Comparison()
    assert comparison.mean(Side.CANARY, "cut") is None
    for count in range(MIN_FOR_INTERVAL + MIN_BUCKETS):
        enough = count >= MIN_FOR_INTERVAL
        assert (comparison.difference("seconds") is not None) is enough
        for side in Side:
            comparison.add(side, count, {"replies": 1, "seconds": 1.0 + count})
    one_key = Comparison()
    for _ in range(100):
        for side in Side:
            one_key.add(side, 5, {"replies": 1, "seconds": 2.0})
    assert one_key.difference("seconds") is None, "one key is one opinion"


def test_sums_of_several_processes_are_one_comparison() -> None:
    kept: dict[str, float] = {}
    whole, parts = Comparison(), [Comparison(), Comparison()]
    for number in range(200):
        side, bucket = draw(0.5, str(number))
        amounts = {"replies": 1.0, "requests": 1.0, "cut": float(number % 3 == 0)}
        whole.add(side, bucket, amounts)
        for name, amount in parts[number % 2].add(side, bucket, amounts).items():
            kept[name] = kept.get(name, 0.0) + amount
    assert Comparison.of(kept).sums == whole.sums
