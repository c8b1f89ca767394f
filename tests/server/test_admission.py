"""The queue as pure state: bounds, priority, turns and limits, for any order of events."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from extracot_server.admission.keys import ANONYMOUS, Principal
from extracot_server.admission.queue import RequestQueue
from extracot_server.admission.scheduler import (
    WINDOW_SECONDS,
    RateLimits,
    Refusal,
    RefusedError,
    Scheduler,
    Ticket,
)
from tests.examples import examples

PRINCIPALS = (
    Principal("a"),
    Principal("b", concurrency=3),
    Principal("c", requests_per_minute=4),
    Principal("urgent", priority=-1),
    Principal("idle", priority=5, concurrency=2, requests_per_minute=3),
)


class SchedulerMachine(RuleBasedStateMachine):
    """Random offers, ends and pauses against what must always hold."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(max_running=2, max_queued=4)
        self.now = 100.0
        self.running: list[Ticket] = []
        self.waiting: list[Ticket] = []  # in the order they came
        self.accepted: dict[str, deque[float]] = {c.name: deque() for c in PRINCIPALS}

    def held(self, principal: Principal) -> int:
        return sum(t.principal is principal for t in self.running + self.waiting)

    def lines(self, priority: int) -> Counter[str]:
        return Counter(t.principal.name for t in self.waiting if t.principal.priority == priority)

    @rule(principal=st.sampled_from(PRINCIPALS))
    def offer(self, principal: Principal) -> None:
        recent = [t for t in self.accepted[principal.name] if t > self.now - WINDOW_SECONDS]
        try:
            ticket, displaced = self.scheduler.offer(principal, self.now)
        except RefusedError as refused:
            self.check_refusal(principal, refused, recent)
            return
        assert principal.concurrency is None or self.held(principal) < principal.concurrency
        assert principal.requests_per_minute is None or len(recent) < principal.requests_per_minute
        self.accepted[principal.name].append(self.now)
        if displaced is not None:
            self.check_displaced(displaced, principal)
        if ticket.running:
            assert not self.waiting
            self.running.append(ticket)
        else:
            self.waiting.append(ticket)

    def check_refusal(
        self, principal: Principal, refused: RefusedError, recent: list[float]
    ) -> None:
        assert 1 <= refused.retry_after <= 60
        match refused.reason:
            case Refusal.CONCURRENCY:
                assert self.held(principal) == principal.concurrency
            case Refusal.RATE:
                assert len(recent) == principal.requests_per_minute
                freed = recent[0] + WINDOW_SECONDS
                assert freed <= self.now + refused.retry_after < freed + 1
            case reason:
                assert reason is Refusal.QUEUE_FULL
                assert len(self.waiting) == 4
                assert all(t.principal.priority <= principal.priority for t in self.waiting)
                lines = self.lines(principal.priority)
                assert max(lines.values(), default=0) <= lines[principal.name] + 1

    def check_displaced(self, displaced: Ticket, principal: Principal) -> None:
        assert displaced.gone and len(self.waiting) == 4
        own = displaced.principal
        assert own.priority == max(t.principal.priority for t in self.waiting)
        lines = self.lines(own.priority)
        assert lines[own.name] == max(lines.values())
        if own.priority == principal.priority:
            assert lines[own.name] > lines[principal.name] + 1
        else:
            assert own.priority > principal.priority
        assert displaced is [t for t in self.waiting if t.principal is own][-1]
        self.waiting.remove(displaced)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.leave(self.running, data.draw(st.integers(0, len(self.running) - 1)))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        self.leave(self.waiting, data.draw(st.integers(0, len(self.waiting) - 1)))

    def leave(self, among: list[Ticket], index: int) -> None:
        ticket = among.pop(index)
        for started in self.scheduler.leave(ticket, self.now):
            assert started.running and started in self.waiting
            best = min(t.principal.priority for t in self.waiting)
            assert started.principal.priority == best
            line = [t for t in self.waiting if t.principal is started.principal]
            assert started is line[0], "one key's requests keep their order"
            self.waiting.remove(started)
            self.running.append(started)
        assert self.scheduler.leave(ticket, self.now) == [], "a ticket is given back once"

    @rule(seconds=st.floats(0.01, 40.0))
    def pause(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def bounded_and_never_idle(self) -> None:
        assert self.scheduler.running == len(self.running) <= 2
        assert self.scheduler.queued == len(self.waiting) <= 4
        assert not self.waiting or len(self.running) == 2


SchedulerMachine.TestCase.settings = settings(examples(150), stateful_step_count=60)
test_any_order_of_events = SchedulerMachine.TestCase


@given(
    backlog=st.dictionaries(st.sampled_from("abcde"), st.integers(1, 12), min_size=1),
    order=st.randoms(use_true_random=False),
)
def test_keys_of_one_priority_take_turns(backlog: dict[str, int], order: object) -> None:
    scheduler = Scheduler(max_running=1, max_queued=100)
    running, _ = scheduler.offer(Principal("first"), 0.0)
    names = [name for name, count in backlog.items() for _ in range(count)]
    order.shuffle(names)  # type: ignore[attr-defined]
    for name in names:
        scheduler.offer(Principal(name), 0.0)
    served: Counter[str] = Counter()
    while started := scheduler.leave(running, 0.0):
        (running,) = started
        served[running.principal.name] += 1
        for one in backlog:
            for other in backlog:
                both_wait = served[one] < backlog[one] and served[other] < backlog[other]
                assert not both_wait or abs(served[one] - served[other]) <= 1
    assert served == backlog


def test_a_flood_of_one_key_leaves_room_for_others() -> None:
    scheduler = Scheduler(max_running=1, max_queued=6)
    for _ in range(7):
        scheduler.offer(Principal("flood"), 0.0)
    with pytest.raises(RefusedError) as caught:
        scheduler.offer(Principal("flood"), 0.0)
    assert caught.value.reason is Refusal.QUEUE_FULL
    displaced = [scheduler.offer(Principal("calm"), 0.0)[1] for _ in range(3)]
    assert [t.principal.name for t in displaced if t] == ["flood"] * 3
    with pytest.raises(RefusedError):  # three and three: nobody has a better claim
        scheduler.offer(Principal("calm"), 0.0)


def test_a_lower_priority_gives_way() -> None:
    scheduler = Scheduler(max_running=1, max_queued=1)
    scheduler.offer(ANONYMOUS, 0.0)
    low, _ = scheduler.offer(Principal("low", priority=1), 0.0)
    high, displaced = scheduler.offer(Principal("high", priority=-1), 0.0)
    assert displaced is low and not high.running
    with pytest.raises(RefusedError):
        scheduler.offer(Principal("low", priority=1), 0.0)


def test_without_a_limit_everybody_runs() -> None:
    scheduler = Scheduler()
    assert all(scheduler.offer(ANONYMOUS, 0.0)[0].running for _ in range(5000))
    assert scheduler.queued == 0


def test_no_queue_at_all() -> None:
    scheduler = Scheduler(max_running=1, max_queued=0)
    ticket, _ = scheduler.offer(ANONYMOUS, 0.0)
    with pytest.raises(RefusedError):
        scheduler.offer(Principal("urgent", priority=-9), 0.0)
    scheduler.leave(ticket, 1.0)
    assert scheduler.offer(ANONYMOUS, 1.0)[0].running


def test_the_rate_counts_any_minute_and_follows_a_reload() -> None:
    scheduler, principal = Scheduler(), Principal("k", requests_per_minute=3)
    for now in (0.0, 20.0, 40.0):
        scheduler.offer(principal, now)
    with pytest.raises(RefusedError) as caught:
        scheduler.offer(principal, 59.5)
    assert (caught.value.reason, caught.value.retry_after) == (Refusal.RATE, 1)
    scheduler.offer(principal, 60.0)
    with pytest.raises(RefusedError) as caught:
        scheduler.offer(replace(principal, requests_per_minute=1), 60.0)
    assert caught.value.retry_after == 60  # until the last of three has left the minute
    scheduler.offer(replace(principal, requests_per_minute=None), 60.0)


def test_a_refused_request_does_not_count_against_the_rate() -> None:
    scheduler = Scheduler(max_running=1, max_queued=0)
    principal = Principal("k", requests_per_minute=2)
    ticket, _ = scheduler.offer(principal, 0.0)
    for _ in range(5):
        with pytest.raises(RefusedError) as caught:
            scheduler.offer(principal, 0.0)
        assert caught.value.reason is Refusal.QUEUE_FULL
    scheduler.leave(ticket, 0.0)
    assert scheduler.offer(principal, 0.0)[0].running


def test_a_permit_holds_its_room_until_it_is_used_or_given_back() -> None:
    limits = RateLimits()
    scheduler = Scheduler(max_running=1, max_queued=0, rate_limits=limits)
    principal = Principal("k", requests_per_minute=2, concurrency=2)
    first, second = limits.take(principal, 0.0), limits.take(principal, 0.0)
    with pytest.raises(RefusedError) as caught:
        limits.take(principal, 0.0)
    assert caught.value.reason is Refusal.CONCURRENCY
    with pytest.raises(RefusedError) as caught:
        limits.take(principal, 0.0, slot=False)
    assert (caught.value.reason, caught.value.retry_after) == (Refusal.RATE, 1)
    for _ in range(2):
        first.give_back()
    ticket, _ = scheduler.offer(principal, 5.0, second)
    second.give_back()
    assert (limits.held, dict(limits.pending)) == ({"k": 1}, {})
    third = limits.take(principal, 6.0)
    with pytest.raises(RefusedError) as caught:
        scheduler.offer(principal, 6.0, third)  # there is no place: it is given back
    assert caught.value.reason is Refusal.QUEUE_FULL
    limits.take(principal, 7.0, slot=False).use(7.0)
    with pytest.raises(RefusedError) as caught:
        limits.take(principal, 8.0)
    assert (caught.value.reason, caught.value.retry_after) == (Refusal.RATE, 57)
    scheduler.leave(ticket, 9.0)
    assert not limits.held and not limits.pending and list(limits.starts["k"]) == [5.0, 7.0]


def test_a_permit_of_a_batch_takes_no_room() -> None:
    limits = RateLimits()
    principal = Principal("k", requests_per_minute=1, concurrency=1)
    for _ in range(3):
        limits.take(principal.for_batches(), 0.0).use(0.0)
    limits.take(principal, 0.0)
    assert limits.held == {"k": 1} and limits.pending == {"k": 1} and not limits.starts


def test_retry_after_follows_how_long_requests_take() -> None:
    scheduler = Scheduler(max_running=2, max_queued=0)
    for _ in range(200):
        pair = [scheduler.offer(ANONYMOUS, 0.0)[0] for _ in range(2)]
        for ticket in pair:
            scheduler.leave(ticket, 30.0)
    for _ in range(2):
        scheduler.offer(ANONYMOUS, 0.0)
    with pytest.raises(RefusedError) as caught:
        scheduler.offer(ANONYMOUS, 0.0)
    assert caught.value.retry_after == 15


def test_closing_refuses_who_waits_and_who_comes() -> None:
    scheduler = Scheduler(max_running=1, max_queued=5)
    running, _ = scheduler.offer(ANONYMOUS, 0.0)
    waiting = [scheduler.offer(Principal(name), 0.0)[0] for name in "abc"]
    assert scheduler.close() == waiting and scheduler.queued == 0
    assert scheduler.leave(waiting[0], 0.0) == []
    with pytest.raises(RefusedError) as caught:
        scheduler.offer(ANONYMOUS, 0.0)
    assert caught.value.reason is Refusal.STOPPING
    assert scheduler.leave(running, 0.0) == [] and scheduler.running == 0


async def freeze() -> None:
    """Let every task run as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.anyio
async def test_a_turn_is_waited_for_and_handed_on() -> None:
    queue = RequestQueue(Scheduler(max_running=1, max_queued=5))
    first = await queue.enter(ANONYMOUS)
    others = [asyncio.create_task(queue.enter(ANONYMOUS)) for _ in range(2)]
    await freeze()
    assert not any(task.done() for task in others)
    queue.leave(first)
    await freeze()
    assert others[0].done() and not others[1].done()
    queue.leave(others[0].result())
    queue.leave(await others[1])
    assert (queue.scheduler.running, queue.scheduler.queued) == (0, 0)


@pytest.mark.anyio
async def test_leaving_the_queue_at_any_moment_loses_no_turn() -> None:
    for steps in range(4):
        queue = RequestQueue(Scheduler(max_running=1, max_queued=5))
        first = await queue.enter(ANONYMOUS)
        leaver, stayer = (asyncio.create_task(queue.enter(ANONYMOUS)) for _ in range(2))
        await freeze()
        queue.leave(first)  # the leaver's turn has come, and it may or may not know
        for _ in range(steps):
            await asyncio.sleep(0)
        if not leaver.done():
            leaver.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaver
        else:
            queue.leave(leaver.result())
        queue.leave(await stayer)
        assert (queue.scheduler.running, queue.scheduler.queued) == (0, 0)


@pytest.mark.anyio
async def test_whoever_waits_is_told_when_it_is_for_nothing() -> None:
    queue = RequestQueue(Scheduler(max_running=1, max_queued=1))
    first = await queue.enter(ANONYMOUS)
    low = asyncio.create_task(queue.enter(Principal("low", priority=1)))
    await freeze()
    high = asyncio.create_task(queue.enter(Principal("high")))
    with pytest.raises(RefusedError) as caught:
        await low
    assert caught.value.reason is Refusal.QUEUE_FULL
    queue.close()
    with pytest.raises(RefusedError) as caught:
        await high
    assert caught.value.reason is Refusal.STOPPING
    queue.leave(first)
    assert (queue.scheduler.running, queue.scheduler.queued) == (0, 0)
