"""What a server's own counts are worth: rates that are learnt, and usage that cannot be."""

from __future__ import annotations

from extracot_server.budget.limits import Limits
from extracot_server.engine.said import Said, SaidUsage
from extracot_server.generation.relayed_counts import Counted, RequestCount, settle
from extracot_server.generation.report import ChoiceState
from extracot_server.generation.token_rate import TokenRate
from tests.server.engine.chat_fakes import FakeChat, chunk, event, in_front_of, usage_of


def learnt() -> TokenRate:
    rate = TokenRate()
    rate.learn(chunks=10, characters=400, tokens=100)
    return rate


def test_a_rate_is_learnt_of_replies_that_can_be() -> None:
    rate = learnt()
    for tokens in (0, 24, 1601, 10**9):
        rate.learn(chunks=10, characters=400, tokens=tokens)
    rate.learn(chunks=1, characters=0, tokens=5)
    assert rate == learnt()
    for tokens in (25, 1600):
        rate.learn(chunks=10, characters=400, tokens=tokens)
    assert rate != learnt()


def test_a_rate_forgets_what_was_long_ago() -> None:
    rate = TokenRate()
    rate.learn(chunks=100, characters=4000, tokens=16_000)
    for _ in range(60):
        rate.learn(chunks=10, characters=400, tokens=100)
    assert 10 <= rate.of("x" * 40, 0.0) < 11


def test_a_server_that_counts_nought_does_not_count() -> None:
    count = RequestCount(TokenRate())
    assert [count.see(Said("x", usage=SaidUsage(5, 0))) for _ in range(3)] == [1, 1, 1]
    later = RequestCount(TokenRate())
    assert later.see(Said(usage=SaidUsage(5, 0))) == 0
    assert [later.see(Said("x", usage=SaidUsage(5, n))) for n in (2, 3)] == [2, 1]


def test_nought_is_no_count_of_what_has_come() -> None:
    limits = Limits(100, 10, 90, "room", None, None)
    state = ChoiceState(limits, reasoning=20, answer=10, sampled=30)
    settle(state, Counted(0, 0, 0, 0), SaidUsage(1, 0))
    assert (state.reasoning, state.answer, state.sampled) == (20, 10, 30)
    settle(state, Counted.of(state), SaidUsage(1, 0))
    assert state.sampled == 30, "and of nothing it is one"


def test_a_reply_that_is_miscounted_spoils_no_later_cap() -> None:
    thought = [{"reasoning_content": f" word{n:02d}"} for n in range(40)]
    fake = FakeChat(counts="none")
    with in_front_of(fake, upstream_offers={"kind": "sglang"}) as live:
        usage = event(choices=[], usage=usage_of(9, 10**6, 0))
        chunks = [chunk(delta) for delta in (*thought, {"content": "4"})]
        fake.script = [*chunks, chunk({}, finish="stop"), usage, "data: [DONE]\n\n"]
        live.chat()
        fake.script = None
        report = live.chat(budget={"max_reasoning_tokens": 20})["budget"]
        kept = fake.bodies[-1]["messages"][-1]["content"]
        assert report["cap_hit"] and kept.count("word") >= 10
