"""Tells a problem's solution as reasoning models think, and labels each sentence while doing so.

What is believed at a point may be wrong: a slip is made, its consequences are drawn from the wrong
value, and at once or much later it is noticed, taken back and what it spoilt is told again. Between
facts stand moves (checks, repeats, detours, dead ends, doubts), so many that what the answer needs
takes the wanted share of the whole. The wordings are the grammar's; this module knows none.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from extracot_training.compression.step_labels import Role, StepLabels
from extracot_training.synthetic.reasoning import telling
from extracot_training.synthetic.reasoning.beliefs import Beliefs, Trouble
from extracot_training.synthetic.reasoning.facts import Fact, Problem, tex
from extracot_training.synthetic.reasoning.grammar import Register, Voice
from extracot_training.synthetic.reasoning.merging import merged
from extracot_training.synthetic.reasoning.moves import Moves
from extracot_training.synthetic.reasoning.notation import Notation
from extracot_training.synthetic.reasoning.script import Paragraphs, Sentence, assemble, tokens
from extracot_training.synthetic.reasoning.style import Telling

CONCLUSION = "conclusion"
# A sentence that states a fact has about so many tokens; only to guess a trace's length.
TYPICAL = 19
# More moves than this in one place would be more than anybody reads.
MOST_MOVES = 60
# Shares of sentences that are put together with the one before; one of them per trace.
MERGED = (0.0, 0.1, 0.25, 0.45)
# Share of statements, right or wrong, that are put as a question.
ASKED = 0.03


class Narrator:
    """Tells one problem once. The same problem, settings and ``rng`` state give the same trace."""

    def __init__(self, problem: Problem, rng: Random, style: Telling) -> None:
        self.problem, self.rng, self.style = problem, rng, style
        registers: tuple[Register, ...] = ("chatty", "chatty", "chatty", "textbook", "notes")
        self.voice = Voice(rng, rng.choice(registers))
        self.notation = Notation.draw(rng)
        self.beliefs = Beliefs(problem, rng)
        self.right, self.needed = self.beliefs.right, self.beliefs.needed
        self.script: list[Sentence] = []
        self.stated: dict[str, Sentence] = {}
        self.first: dict[str, Sentence] = {}
        self.needs: list[str] = []
        self.total = 0
        self.needed_total = 0
        low, high = style.length
        guess = TYPICAL * (len(self.needed) + 1)
        self.share = min(max(rng.uniform(*style.needed), guess / high), guess / low)
        self._slip_rate = rng.uniform(0.3, 1.0) * style.slips
        self._split_rate = rng.choice((0.0, 0.1, 0.3))
        self._display_rate = rng.choice((0.0, 0.0, 0.15, 0.3))
        self._join_rate = rng.choice((0.0, 0.2, 0.4, 0.6))
        self._moves = Moves(self)

    @property
    def trouble(self) -> Trouble | None:
        """The slip that is open."""
        return self.beliefs.trouble

    def tell(self) -> tuple[str, StepLabels]:
        """The trace and its labels."""
        self._moves.opening()
        pending = self.beliefs.order()
        while pending:
            self._moves.before(self.right[pending[0]])
            pending = self._next(pending)
            self._pad()
            if self.trouble is not None and self.trouble.due <= 0:
                self.notice()
        self._end()
        told = merged(self.script, self.rng, self.rng.choice(MERGED))
        return assemble(told, self.notation, self.rng, Paragraphs.draw(self.rng), self.needs)

    # What is said.

    def add(
        self, markup: str, role: Role, *, groups: Sequence[str] = (),
        misstates: Sequence[str] = (), refers: Sequence[Sentence] = (),
        revokes: Sequence[Sentence] = (), after: str = " ",
    ) -> Sentence:  # fmt: skip
        """Append a sentence."""
        size = tokens(markup.translate({ord(mark): None for mark in "{}*$"}))
        sentence = Sentence(
            markup, role, tuple(groups), tuple(misstates), list(refers),
            list(revokes), after,
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

    def about(self, key: str, markup: str, role: Role) -> Sentence:
        """A sentence that says again a fact which has been told: where the fact is believed wrongly
        this sentence will be revoked with it."""
        if self.beliefs.fact(key).wrong:
            return self._wrong(markup, (key,), [self.stated[key]])
        return self.add(markup, role, groups=(key,), refers=[self.stated[key]])

    def _wrong(
        self, markup: str, keys: Sequence[str], refers: Sequence[Sentence], after: str = " "
    ) -> Sentence:
        """A sentence that will be taken back with the slip that is open."""
        assert self.trouble is not None
        sentence = self.add(markup, "revoked", misstates=keys, refers=refers, after=after)
        self.trouble.sentences.append(sentence)
        return sentence

    # Facts.

    def _next(self, pending: list[str]) -> list[str]:
        """Tell the first pending fact, or some; gives back those still pending."""
        key = pending[0]
        if self.trouble is None and self.rng.random() < self._slip_rate:
            slipped = self.beliefs.trouble = self.beliefs.slip(key, self.style.late)
            if slipped is not None:
                self._tell_wrong([key])
                if slipped.due <= 0:
                    self.notice(late=False)
                return pending[1:]
        trouble = self.trouble
        if trouble is not None and key in trouble.wrong:
            if not self.beliefs.tellable(key):
                self.notice()
                return pending
            chosen = self._together(pending)
            self._tell_wrong(chosen)
        else:
            chosen = self._together(pending)
            self._state_some([self.right[name] for name in chosen])
        if trouble is not None:
            trouble.due -= len(chosen)
        return pending[len(chosen) :]

    def _together(self, pending: list[str]) -> list[str]:
        """The first pending facts that one sentence states: all right, or all wrong."""
        wrong = self.trouble.wrong if self.trouble is not None else frozenset()
        chosen = pending[:1]
        for name in pending[1:3]:
            alike = self.beliefs.tellable(name) if chosen[0] in wrong else name not in wrong
            if not alike or self.rng.random() >= self._join_rate:
                break
            chosen.append(name)
        return chosen

    def _tell_wrong(self, keys: list[str]) -> None:
        assert self.trouble is not None
        self._state_some([self.trouble.facts[key] for key in keys])
        self.trouble.told += keys

    def _sources(self, fact: Fact) -> list[Sentence]:
        """What it is derived from. A right fact that does not change with what it is derived from
        (a formula) is told while that is wrong, too, and then does not refer to it."""
        found = [self.stated[key] for key in fact.deps if key in self.stated]
        return found if fact.wrong else [one for one in found if one.role != "revoked"]

    def _state_some(self, facts: Sequence[Fact]) -> None:
        """One fact, or several in one sentence; all are right or all are wrong."""
        if len(facts) == 1:
            self._state(facts[0])
            return
        said = telling.clause(facts[0], self.voice, plain=True)
        for fact in facts[1:]:
            said = self.voice.say("joined", a=said, b=telling.clause(fact, self.voice, plain=True))
        refers = [sentence for fact in facts for sentence in self._sources(fact)]
        keys = tuple(fact.key for fact in facts)
        if facts[0].wrong:
            sentence = self._wrong(said, keys, refers)
        else:
            sentence = self.add(said, "needed", groups=keys, refers=refers)
            self.first.update(dict.fromkeys(keys, sentence))
            self.needs += keys
        self.stated.update(dict.fromkeys(keys, sentence))

    def _state(self, fact: Fact, *, lead: str = "", revokes: Sequence[Sentence] = ()) -> None:
        """Tell a fact, in one sentence or two."""
        refers, voice, rng = self._sources(fact), self.voice, self.rng
        kind = rng.random() if not lead and telling.can_split(fact) else 1.0
        if kind < self._split_rate:
            first, second = telling.halves(fact, voice)
            begun = self._half(fact, first, refers)
            self._whole(fact, second, [begun])
        elif kind < self._split_rate + self._display_rate:
            first, second = telling.displayed(fact, voice)
            if rng.random() < 0.5:
                self._whole(fact, f"{first.removesuffix(':')} {second}", refers)
            else:
                begun = self._half(fact, first, refers, after="\n")
                self._whole(fact, second, [begun])
        else:
            said = telling.clause(fact, voice, plain=bool(lead) and rng.random() < 0.6)
            if "fused" in lead:
                said = voice.say(lead, clause=said)
            elif lead:
                said = f"{voice.say(lead)} {said}"
            if not lead and rng.random() < ASKED:
                said = f"{said}?"
            self._whole(fact, said, refers, revokes)

    def _half(
        self, fact: Fact, markup: str, refers: Sequence[Sentence], after: str = " "
    ) -> Sentence:
        """A sentence that names a fact or gives its formula; the next one has its value."""
        key = f"{fact.key}/formula"
        if not fact.wrong:
            return self._right(key, markup, refers, (), after)
        trouble = self.trouble
        assert trouble is not None
        if fact.key == trouble.key and trouble.slip.expr is None:
            # The formula is right, only its value isn't.
            return self.add(markup, "narration", refers=refers, after=after)
        return self._wrong(markup, (fact.key,), refers, after)

    def _whole(
        self, fact: Fact, markup: str, refers: Sequence[Sentence],
        revokes: Sequence[Sentence] = (),
    ) -> None:  # fmt: skip
        self.stated[fact.key] = (
            self._wrong(markup, (fact.key,), refers)
            if fact.wrong
            else self._right(fact.key, markup, refers, revokes)
        )

    def _right(
        self, key: str, markup: str, refers: Sequence[Sentence], revokes: Sequence[Sentence],
        after: str = " ",
    ) -> Sentence:  # fmt: skip
        """A right statement: needed where it is the first of its fact, else a repeat."""
        role: Role = "repeat" if key in self.first else "needed"
        sentence = self.add(
            markup, role, groups=(key,), refers=refers, revokes=revokes, after=after
        )
        if role == "needed":
            self.first[key] = sentence
            self.needs.append(key)
        return sentence

    # Taking back.

    def notice(self, *, late: bool | None = None) -> None:
        """Take back the slip that is open, and tell rightly what it has spoilt."""
        trouble = self.trouble
        assert trouble is not None
        late = len(trouble.sentences) > 1 if late is None else late
        self.beliefs.trouble = None
        right = self.right[trouble.key]
        if late and self.rng.random() < 0.5:
            self.say("doubt_late")
        if self.rng.random() < 0.3:
            lead = "fused_late" if late and self.rng.random() < 0.7 else "fused"
            self._state(right, lead=lead, revokes=trouble.sentences)
        else:
            self._take_back(trouble, late)
            self._state(right, lead=self.rng.choice(("redo", "")))
        for key in trouble.told[1:]:
            self._state(self.right[key], lead=self.rng.choice(("follow", "", "")))

    def _take_back(self, trouble: Trouble, late: bool) -> None:
        """The sentences that do: one of them revokes, others doubt, compare or explain."""
        fact, right, rng = trouble.facts[trouble.key], self.right[trouble.key], self.rng
        slots = telling.slots(fact, self.voice)
        slots |= {"wrong": f"${tex(fact.value)}$", "right": f"${tex(right.value)}$"}
        if trouble.slip.notes:
            slots["note"] = rng.choice(trouble.slip.notes)
        elif trouble.slip.kind == "miscalculation":
            slots["note"] = self.voice.say("note_miscalculation", **slots)
        else:
            slots["note"] = self.voice.say("note_general")
        named = bool(fact.what) and bool(tex(fact.value)) and bool(fact.expr)
        same_formula = named and trouble.slip.expr is None
        rule = "takeback_claim" if not named else "takeback_late" if late else "takeback_now"
        before: list[str] = []
        after: list[str] = []
        if same_formula and rng.random() < 0.2:
            before = self.voice.sentences("mismatch", **slots)
        if same_formula and rng.random() < 0.3:
            rule = "takeback_value"
        elif named and rng.random() < 0.2:
            before += self.voice.sentences("explain", **slots)
            rule = "withdraw"
        elif rng.random() < 0.1:
            after = self.voice.sentences("explain", **slots)
        *doubts, last = self.voice.sentences(rule, **slots)
        origin = [trouble.sentences[0]]
        for part in (*before, *doubts):
            self.add(part, "narration", refers=origin if "$" in part else ())
        self.add(last, "takeback", refers=origin, revokes=trouble.sentences)
        for part in after:
            self.add(part, "narration")

    # Length, and the end.

    def _pad(self) -> None:
        """Moves until what is needed so far has its share of what has been said so far."""
        wanted = self.needed_total / self.share * self.rng.uniform(0.45, 0.95)
        told = sum(key in self.stated for key in self.needed) / len(self.needed)
        wanted = min(wanted, 0.8 * told * self.style.length[1])
        for _ in range(MOST_MOVES):
            if self.total >= wanted:
                break
            self._moves.one()

    def _end(self) -> None:
        """Moves, the conclusion, perhaps another check and the conclusion again."""
        last, rng = self.problem.last, self.rng
        if (trouble := self.trouble) is not None:
            if last in trouble.told and rng.random() < 0.6:
                self._conclude(trouble.facts[last])
                self._moves.hedge()
            self.notice()
        again = rng.random() < 0.3
        if again:
            self._conclude(self.right[last])
        shortest, longest = self.style.length
        wanted = min(max(self.needed_total / self.share, shortest), 0.95 * longest)
        for _ in range(MOST_MOVES):
            if self.total >= wanted:
                break
            self._moves.closing()
        if again:
            said = self.voice.say("conclude_again", **self._answer(self.right[last]))
            refers = [self.stated[CONCLUSION]]
            self.add(said, "repeat", groups=(CONCLUSION,), refers=refers)
        else:
            self._conclude(self.right[last])

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
        said = self.voice.say("conclude", **self._answer(last))
        self._whole(conclusion, said, [self.stated[last.key]])
