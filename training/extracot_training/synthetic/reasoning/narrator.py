"""Tells a problem's solution as reasoning models think, and labels each sentence while doing so.

What is believed at a point may be wrong: a slip is made, its consequences are drawn from the wrong
value, and at once or much later it is noticed, taken back and what it spoilt is told again. Between
facts stand moves (checks, repeats, detours, dead ends, doubts), so many that what the answer needs
takes the wanted share of the whole. The wordings are the grammar's; this module knows none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from extracot_training.compression.step_labels import Role, StepLabels
from extracot_training.synthetic.reasoning import telling
from extracot_training.synthetic.reasoning.facts import (
    Fact,
    Problem,
    Slip,
    miscalculations,
    needed_facts,
    tex,
)
from extracot_training.synthetic.reasoning.grammar import Register, Voice
from extracot_training.synthetic.reasoning.markup import capitalised
from extracot_training.synthetic.reasoning.moves import MOVES, Moves
from extracot_training.synthetic.reasoning.notation import Notation
from extracot_training.synthetic.reasoning.script import Paragraphs, Sentence, assemble, tokens

CONCLUSION = "conclusion"
# A sentence that states a fact has about so many tokens; only to guess a trace's length.
TYPICAL = 19


@dataclass(frozen=True, slots=True)
class Telling:
    """How a trace is told. ``length``: fewest and most tokens, about. ``needed``: least and most
    share of the tokens that needed sentences take. ``slips``: most likely share of facts that are
    first got wrong. ``late``: share of slips that are noticed only later. ``moves``: weights of the
    moves between facts."""

    length: tuple[int, int] = (300, 3000)
    needed: tuple[float, float] = (0.1, 0.28)
    slips: float = 0.6
    late: float = 0.55
    moves: Mapping[str, float] = field(default_factory=lambda: dict(MOVES))


@dataclass(slots=True)
class Trouble:
    """A slip that has not been noticed. ``told``: keys of wrong facts told since, in order."""

    key: str
    slip: Slip
    facts: dict[str, Fact]
    wrong: frozenset[str]
    due: int
    told: list[str] = field(default_factory=list)
    sentences: list[Sentence] = field(default_factory=list)


class Narrator:
    """Tells one problem once. The same problem, settings and ``rng`` state give the same trace."""

    def __init__(self, problem: Problem, rng: Random, style: Telling) -> None:
        self.problem, self.rng, self.style = problem, rng, style
        registers: tuple[Register, ...] = ("chatty", "chatty", "chatty", "textbook", "notes")
        self.voice = Voice(rng, rng.choice(registers))
        self.notation = Notation.draw(rng)
        facts, complete = problem.world()
        if not complete:
            raise AssertionError(f"{problem.kind}: the right solution breaks off at {list(facts)}")
        self.right = facts
        self.needed = needed_facts(facts, problem.last)
        self.script: list[Sentence] = []
        self.stated: dict[str, Sentence] = {}
        self.first: dict[str, Sentence] = {}
        self.needs: list[str] = []
        self.trouble: Trouble | None = None
        self.total = 0
        self.needed_total = 0
        self.share = self._share()
        self._slip_rate = rng.uniform(0.3, 1.0) * style.slips
        self._split_rate = rng.choice((0.0, 0.1, 0.3))
        self._display_rate = rng.choice((0.0, 0.0, 0.15, 0.3))
        self._join_rate = rng.choice((0.0, 0.2, 0.4))
        self._moves = Moves(self)

    def tell(self) -> tuple[str, StepLabels]:
        """The trace and its labels."""
        self._moves.opening()
        pending = self._order()
        while pending:
            self._moves.before(self.right[pending[0]])
            pending = self._next(pending)
            self._pad()
            if self.trouble is not None and self.trouble.due <= 0:
                self.notice()
        self._end()
        return assemble(self.script, self.notation, self.rng, Paragraphs.draw(self.rng), self.needs)

    # What is said.

    def add(
        self, markup: str, role: Role, *, groups: Sequence[str] = (),
        misstates: Sequence[str] = (), refers: Sequence[Sentence] = (),
        revokes: Sequence[Sentence] = (), after: str = " ",
    ) -> Sentence:  # fmt: skip
        """Append a sentence."""
        size = tokens(markup.translate({ord(mark): None for mark in "{}*$"}))
        sentence = Sentence(
            capitalised(markup), role, tuple(groups), tuple(misstates), list(refers),
            list(revokes), after, size,
        )  # fmt: skip
        self.script.append(sentence)
        self.total += size
        if role == "needed":
            self.needed_total += size
        return sentence

    def say(self, rule: str, role: Role = "narration", **slots: str) -> None:
        """Sentences that state no fact."""
        for part in self.voice.sentences(rule, **slots):
            self.add(part, role)

    def belief(self, key: str) -> Fact:
        """The fact as it was last told."""
        trouble = self.trouble
        return trouble.facts[key] if trouble and key in trouble.told else self.right[key]

    def about(self, key: str, markup: str, role: Role, **changes: Sequence[Sentence]) -> Sentence:
        """A sentence that says again a fact which has been told: where the fact is believed wrongly
        this sentence will be revoked with it."""
        refers = [self.stated[key]]
        if self.belief(key).wrong:
            assert self.trouble is not None
            sentence = self.add(markup, "revoked", misstates=(key,), refers=refers)
            self.trouble.sentences.append(sentence)
            return sentence
        return self.add(markup, role, groups=(key,), refers=refers)

    # Facts.

    def _order(self) -> list[str]:
        """The needed facts, each after those it depends on; independent ones in any order."""
        left = list(self.needed)
        order: list[str] = []
        loose = self.rng.choice((0.0, 0.0, 0.3, 0.6))
        while left:
            ready = [key for key in left if set(self.right[key].deps) <= set(order)]
            chosen = self.rng.choice(ready) if self.rng.random() < loose else ready[0]
            order.append(chosen)
            left.remove(chosen)
        return order

    def _next(self, pending: list[str]) -> list[str]:
        """Tell the first pending fact, or two; gives back those still pending."""
        key, *rest = pending
        trouble = self.trouble
        if trouble is not None:
            trouble.due -= 1
            if key in trouble.wrong:
                if key not in trouble.facts or self._same(trouble.facts[key]):
                    self.notice()
                    return pending
                self._state(trouble.facts[key])
                trouble.told.append(key)
                return rest
            self._state(self.right[key])
            return rest
        if self.rng.random() < self._slip_rate and (made := self._slip(key)) is not None:
            self.trouble = made
            self._state(made.facts[key])
            made.told.append(key)
            if made.due <= 0:
                self.notice(late=False)
            return rest
        if rest and self.rng.random() < self._join_rate:
            self._state_both(self.right[key], self.right[rest[0]])
            return rest[1:]
        self._state(self.right[key])
        return rest

    def _same(self, fact: Fact) -> bool:
        return fact.value == self.right[fact.key].value and not isinstance(fact.value, str)

    def _slip(self, key: str) -> Trouble | None:
        """A slip at this fact: not in what is right after all."""
        fact, rng = self.right[key], self.rng
        own = list(fact.slips)
        hasty = miscalculations(fact, rng)
        rng.shuffle(own)
        for slip in [*own, *hasty] if rng.random() < 0.7 else [*hasty, *own]:
            facts, _ = self.problem.world({key: slip})
            world = {name: found for name, found in facts.items() if not self._unchanged(found)}
            wrong = frozenset(world) | frozenset(self.right) - frozenset(facts)
            if key not in world or self._same(world[key]):
                continue
            if any(not found.wrong for found in world.values()):
                raise AssertionError(f"{self.problem.kind}: {key} changes a fact that does not "
                                     "say that it depends on it")  # fmt: skip
            late = rng.random() < self.style.late
            due = rng.choice((1, 1, 2, 2, 3, 4, 6)) if late else 0
            return Trouble(key, slip, world, wrong, due)
        return None

    def _unchanged(self, fact: Fact) -> bool:
        """Whether it says what the right one does; an aside of a wrong world alone is not told."""
        right = self.right.get(fact.key)
        if right is None:
            return True
        return (fact.value, fact.expr, fact.says) == (right.value, right.expr, right.says)

    def _sources(self, fact: Fact) -> list[Sentence]:
        return [self.stated[key] for key in fact.deps if key in self.stated]

    def _state(self, fact: Fact, *, lead: str = "", revokes: Sequence[Sentence] = ()) -> Sentence:
        """Tell a fact, in one sentence or two."""
        refers, voice, rng = self._sources(fact), self.voice, self.rng
        kind = rng.random()
        if not lead and telling.can_split(fact) and kind < self._split_rate:
            first, second = telling.halves(fact, voice)
            begun = self._fact_sentence(fact, first, refers, part=True)
            return self._fact_sentence(fact, second, [begun])
        if not lead and telling.can_split(fact) and kind < self._split_rate + self._display_rate:
            first, second = telling.displayed(fact, voice)
            if rng.random() < 0.5:
                return self._fact_sentence(fact, f"{first.removesuffix(':')} {second}", refers)
            begun = self._fact_sentence(fact, first, refers, part=True, after="\n")
            return self._fact_sentence(fact, second, [begun])
        said = telling.clause(fact, voice, plain=bool(lead) and rng.random() < 0.6)
        if lead:
            said = voice.say(lead, clause=said) if "fused" in lead else voice.say(lead) + " " + said
        return self._fact_sentence(fact, said, refers, revokes=revokes)

    def _fact_sentence(
        self, fact: Fact, markup: str, refers: Sequence[Sentence], *, part: bool = False,
        revokes: Sequence[Sentence] = (), after: str = " ",
    ) -> Sentence:  # fmt: skip
        key = f"{fact.key}/formula" if part else fact.key
        if fact.wrong:
            assert self.trouble is not None
            sentence = self.add(markup, "revoked", misstates=(fact.key,), refers=refers,
                                after=after)  # fmt: skip
            self.trouble.sentences.append(sentence)
        else:
            role: Role = "detour" if fact.key not in (*self.needed, CONCLUSION) else "needed"
            again = key in self.first
            if again:
                role = "repeat"
            sentence = self.add(markup, role, groups=(key,), refers=refers, revokes=revokes,
                                after=after)  # fmt: skip
            if not again:
                self.first[key] = sentence
                if role == "needed":
                    self.needs.append(key)
        if not part:
            self.stated[fact.key] = sentence
        return sentence

    def _state_both(self, left: Fact, right: Fact) -> None:
        """Two facts in one sentence."""
        parts = (telling.clause(fact, self.voice, plain=True) for fact in (left, right))
        said = self.voice.say("joined", **dict(zip("ab", parts, strict=True)))
        refers = [*self._sources(left), *self._sources(right)]
        sentence = self.add(said, "needed", groups=(left.key, right.key), refers=refers)
        for fact in (left, right):
            self.stated[fact.key] = self.first[fact.key] = sentence
            self.needs.append(fact.key)

    # Taking back.

    def notice(self, *, late: bool | None = None) -> None:
        """Take back the slip that is open, and tell rightly what it has spoilt."""
        trouble = self.trouble
        assert trouble is not None
        late = len(trouble.sentences) > 1 if late is None else late
        fact = trouble.facts[trouble.key]
        found = telling.slots(fact, self.voice)
        self.trouble = None
        right = self.right[trouble.key]
        if late and self.rng.random() < 0.5:
            self.say("doubt_late")
        if self.rng.random() < 0.3:
            lead = "fused_late" if late and self.rng.random() < 0.7 else "fused"
            self._state(right, lead=lead, revokes=trouble.sentences)
        else:
            self._take_back(trouble, found, late)
            self._state(right, lead=self.rng.choice(("redo", "")))
        for key in trouble.told[1:]:
            self._state(self.right[key], lead=self.rng.choice(("follow", "", "")))

    def _take_back(self, trouble: Trouble, found: dict[str, str], late: bool) -> None:
        fact = trouble.facts[trouble.key]
        wrong = f"${tex(fact.value)}$"
        if trouble.slip.notes:
            note = self.rng.choice(trouble.slip.notes)
        elif trouble.slip.kind == "miscalculation":
            note = self.voice.say("note_miscalculation", wrong=wrong, expr=found["expr"])
        else:
            note = self.voice.say("note_general")
        named = bool(fact.what) and tex(fact.value) != ""
        rule = "takeback_late" if late and named else "takeback_now" if named else "takeback_claim"
        what = found.get("what", "")
        *before, last = self.voice.sentences(rule, note=note, wrong=wrong, what=what)
        for part in before:
            self.add(part, "narration")
        self.add(last, "takeback", refers=[trouble.sentences[0]], revokes=trouble.sentences)

    # Length.

    def _share(self) -> float:
        """The share of needed tokens, so that the length is in range."""
        low, high = self.style.length
        guess = TYPICAL * (len(self.needed) + 1)
        share = self.rng.uniform(*self.style.needed)
        return min(max(share, guess / high), guess / low)

    def _pad(self) -> None:
        """Moves until what is needed so far has its share of what has been said so far."""
        wanted = self.needed_total / self.share * self.rng.uniform(0.45, 0.95)
        stop = 60
        while self.total < wanted and stop:
            self._moves.one()
            stop -= 1

    def _end(self) -> None:
        """A summary or a check, the conclusion, perhaps another check and the conclusion again."""
        rng = self.rng
        if self.trouble is not None:
            wrong = self.trouble.facts.get(self.problem.last)
            if wrong is not None and self.problem.last in self.trouble.told and rng.random() < 0.6:
                self._conclude(wrong)
                self._moves.hedge()
            self.notice()
        again = rng.random() < 0.3
        if again:
            self._conclude(self.right[self.problem.last])
        wanted = max(self.needed_total / self.share, self.style.length[0])
        stop = 60
        while self.total < wanted and stop:
            self._moves.closing()
            stop -= 1
        if again:
            said = self.voice.say("conclude_again", **self._answer(self.right[self.problem.last]))
            self.add(said, "repeat", groups=(CONCLUSION,), refers=[self.stated[CONCLUSION]])
        else:
            self._conclude(self.right[self.problem.last])

    def _answer(self, fact: Fact) -> dict[str, str]:
        value = tex(fact.value) if fact.wrong else self.problem.answer
        # A boxed answer is final: the last one is what a reader takes.
        boxed = not fact.wrong and self.rng.random() < 0.2
        answer = f"$\\boxed{{{value}}}$" if boxed else f"${value}$"
        if fact.unit and not boxed and self.rng.random() < 0.6:
            answer += f" {fact.unit}"
        return {"answer": answer, "target": "{" + self.rng.choice(self.problem.target) + "}"}

    def _conclude(self, last: Fact) -> None:
        conclusion = Fact(CONCLUSION, last.value, deps=(last.key,), wrong=last.wrong)
        if last.wrong and self.trouble is not None:
            self.trouble.facts[CONCLUSION] = conclusion
        said = self.voice.say("conclude", **self._answer(last))
        self._fact_sentence(conclusion, said, [self.stated[last.key]])
