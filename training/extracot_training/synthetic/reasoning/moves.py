"""What a narrator does between facts: checks, repeats, detours, dead ends, doubts and hedges.

Each move adds sentences that the answer does not need. This module chooses and words them; it does
not know which facts come next or how long a trace shall be.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from extracot_training.compression.step_labels import Role
from extracot_training.synthetic.reasoning import telling
from extracot_training.synthetic.reasoning.facts import Fact, miscalculations, tex
from extracot_training.synthetic.reasoning.side_math import inverse, mistake, remarks
from extracot_training.synthetic.story import listing

if TYPE_CHECKING:
    from extracot_training.synthetic.reasoning.narrator import Narrator

# Moves that make no sense once the answer is known.
BEFORE_THE_END = frozenset({"restart", "shelve", "asked"})


def bare(clause: str) -> str:
    """Without a word that only joins it to what was before."""
    return re.sub(r"^(?:and|so|then|now|here) ", "", clause)


class Moves:
    """The moves of one narrator."""

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self._rng = narrator.rng
        self._last = ""
        self._dead = list(narrator.problem.dead)
        self._remarks = list(narrator.problem.remarks)
        self._checks = list(narrator.problem.checks)
        self._other = narrator.problem.other
        self._asides = [key for key, fact in narrator.right.items() if fact.aside]
        self._shelved: list[str] = []
        self._rng.shuffle(self._dead)
        self._rng.shuffle(self._remarks)
        self._rng.shuffle(self._checks)

    def opening(self) -> None:
        """The task, some of its conditions, perhaps a plan."""
        rng = self._rng
        for _ in range(rng.choice((1, 1, 2))):
            self._narrator.say("open", target=self._target())
        conditions = list(self._narrator.problem.conditions)
        if rng.random() < 0.8:
            for condition in conditions[: rng.randint(1, max(1, len(conditions)))]:
                self._narrator.say("given", cond=condition)

    def before(self, fact: Fact) -> None:
        """Announce what comes, now and then."""
        if fact.what and self._rng.random() < 0.25:
            self._narrator.say("plan", what=self._rng.choice(fact.what))
        elif self._shelved and self._rng.random() < 0.5:
            self._reuse()

    def one(self, but: frozenset[str] = frozenset()) -> None:
        """One move; not the same kind twice in a row, if there is another, and none of ``but``."""
        weights = {
            name: weight
            for name, weight in self._narrator.style.moves.items()
            if name != self._last and name not in but and weight > 0
        }
        if not weights:
            return
        name = self._rng.choices(list(weights), list(weights.values()))[0]
        self._last = name
        getattr(self, name)()

    def closing(self) -> None:
        """A move after the answer is known."""
        if self._shelved:
            self._reuse()
        if self._checks and self._rng.random() < 0.5:
            self.check()
        elif self._other and self._rng.random() < 0.4:
            self.other_way()
        elif self._rng.random() < 0.05:
            self._narrator.say("sense")
        else:
            self.one(BEFORE_THE_END)

    def check(self) -> None:
        """The answer confirmed, by what the problem gives for that."""
        narrator = self._narrator
        if self._rng.random() < 0.6:
            narrator.say("check_open")
        clause = self._checks.pop()
        refers = [
            narrator.stated[key] for key in (narrator.problem.last,) if key in narrator.stated
        ]
        for part in narrator.voice.sentences("check", clause=clause):
            narrator.add(part, "check", refers=refers)
        if self._rng.random() < 0.5:
            narrator.say("check_close", "check")

    def other_way(self) -> None:
        """The answer found on another way, by what the problem gives for that."""
        narrator, clauses = self._narrator, self._other
        self._other = ()
        narrator.say("other_open", "check")
        refers = [narrator.stated[narrator.problem.last]]
        for clause in clauses:
            said = narrator.add(self._said("other_on", clause=bare(clause)), "check", refers=refers)
            refers = [said]
        if self._rng.random() < 0.6:
            narrator.say("other_close", "check")

    def undo(self) -> None:
        """A told value led back to what it came from."""
        key = self._told(right=True)
        if key is None or (back := inverse(self._narrator.right[key])) is None:
            return
        fact = self._narrator.right[key]
        what = "{" + self._rng.choice(fact.what or ("this",)) + "}"
        said = self._said("undo", back=f"${back}$", what=what)
        self._narrator.add(said, "check", refers=[self._narrator.stated[key]])

    def size(self) -> None:
        """Something true about a value that was told; about a wrong one it goes with it."""
        key = self._told()
        if key is None:
            return
        fact = self._narrator.beliefs.fact(key)
        found = remarks(fact, self._rng)
        if found:
            said = self._said("size", remark=found[0])
            if fact.wrong:
                self._narrator.about(key, said, "detour")
            else:
                self._narrator.add(said, "detour", refers=[self._narrator.stated[key]])

    def what_if(self) -> None:
        """What a mistake would have given, which was not made."""
        key = self._told(right=True)
        if key is None or (found := mistake(self._narrator.right[key], self._rng)) is None:
            return
        said = self._said("what_if", **found)
        self._narrator.add(said, "detour", refers=[self._narrator.stated[key]])

    def hedge(self) -> None:
        self._narrator.say("hedge")

    def asked(self) -> None:
        self._narrator.say("again_asked", target=self._target())

    def restate(self) -> None:
        conditions = self._narrator.problem.conditions
        if conditions:
            self._narrator.say("given", cond=self._rng.choice(conditions))

    def repeat(self) -> None:
        """A told fact once more, in whole."""
        if (key := self._told()) is not None:
            fact = self._narrator.beliefs.fact(key)
            if fact.says or fact.what:
                found = telling.slots(fact, self._narrator.voice)
                said = self._said("repeat_claim" if fact.says else "repeat", **found)
                self._about(key, said, "repeat", found)

    def recheck(self) -> None:
        """A told fact worked out again with the same result, be that right or wrong."""
        if (key := self._told()) is None:
            return
        fact, voice = self._narrator.beliefs.fact(key), self._narrator.voice
        if fact.says or fact.what:
            found = telling.slots(fact, voice)
            for part in voice.sentences("recheck_claim" if fact.says else "recheck", **found):
                self._about(key, part, "check", found)

    def _about(self, key: str, said: str, role: Role, found: dict[str, str]) -> None:
        """A sentence about a told fact: it states it only if it says what is what."""
        named = [found[name][1:] for name in ("clause", "eq", "what") if name in found]
        whole = any(name in said for name in named) and not said.endswith("?")
        if whole and ("$" in said or "clause" in found):
            self._narrator.about(key, said, role)
        else:
            self._narrator.add(said, role, refers=[self._narrator.stated[key]])

    def _said(self, rule: str, **slots: str) -> str:
        """The last sentence of what a rule says; those before it are told as narration."""
        *before, last = self._narrator.voice.sentences(rule, **slots)
        for part in before:
            self._narrator.add(part, "narration")
        return last

    def summary(self) -> None:
        """Some told values in one sentence. Wrong ones are left out."""
        narrator = self._narrator
        keys = [
            key
            for key in narrator.stated
            if key in narrator.right
            and narrator.right[key].what
            and not narrator.right[key].says
            and not narrator.beliefs.fact(key).wrong
            and key in narrator.first
        ]
        if len(keys) < 2:
            return
        picked = self._rng.sample(keys, min(len(keys), self._rng.choice((2, 3, 4))))
        chosen = [key for key in keys if key in picked]
        parts = []
        for key in chosen:
            found = telling.slots(narrator.right[key], narrator.voice)
            parts.append(f"{found['what']} is {found['value']}")
        last = self._said("summary", list=listing(parts))
        narrator.add(last, "repeat", groups=chosen, refers=[narrator.stated[key] for key in chosen])

    def detour(self) -> None:
        """Something true that is not needed."""
        narrator = self._narrator
        ready = [
            key
            for key in self._asides
            if key not in narrator.stated
            and all(d in narrator.stated and not narrator.beliefs.fact(d).wrong
                    for d in narrator.right[key].deps)
        ]  # fmt: skip
        if ready and self._rng.random() < 0.6:
            key = self._rng.choice(ready)
            fact = narrator.right[key]
            said = self._said("detour", clause=telling.clause(fact, narrator.voice, plain=True))
            refers = [narrator.stated[d] for d in fact.deps]
            narrator.stated[key] = narrator.add(said, "detour", groups=(key,), refers=refers)
            narrator.first[key] = narrator.stated[key]
        elif self._remarks:
            narrator.add(self._said("detour", clause=self._remarks.pop()), "detour")

    def dead_end(self) -> None:
        """A way that is begun and given up."""
        if not self._dead:
            return
        narrator = self._narrator
        first, *rest = self._dead.pop()
        gone = [narrator.add(self._said("try", clause=first), "revoked")]
        for place, clause in enumerate(rest):
            said = self._said(
                "try_end" if place + 1 == len(rest) else "try_on", clause=bare(clause)
            )
            gone.append(narrator.add(said, "revoked", refers=gone[-1:]))
        narrator.add(self._said("abandon"), "takeback", refers=gone[-1:], revokes=gone)

    def shelve(self) -> None:
        """A right fact that seems to be of no use; it is needed later."""
        narrator = self._narrator
        key = self._told(right=True)
        if key is None or key == narrator.problem.last or self._shelved:
            return
        if not narrator.right[key].what:
            return
        what = "{" + self._rng.choice(narrator.right[key].what) + "}"
        for part in narrator.voice.sentences("shelve", what=what):
            narrator.add(part, "narration", refers=[narrator.stated[key]])
        self._shelved.append(key)
        self.dead_end()

    def _reuse(self) -> None:
        narrator = self._narrator
        key = self._shelved.pop()
        what = "{" + self._rng.choice(narrator.right[key].what) + "}"
        for part in narrator.voice.sentences("reuse", what=what):
            narrator.add(part, "narration", refers=[narrator.stated[key]])

    def false_alarm(self) -> None:
        """A right value is believed wrong for a moment, and then restored."""
        narrator = self._narrator
        key = self._told(right=True)
        if key is None or not narrator.right[key].what:
            return
        fact = narrator.right[key]
        slips = miscalculations(fact, self._rng)
        if not slips:
            return
        found = telling.slots(fact, narrator.voice)
        found["wrong"] = f"${tex(self._rng.choice(slips).value)}$"
        refers = [narrator.stated[key]]
        said = self._said("wrong_revision", **found)
        gone = narrator.add(said, "revoked", misstates=(key,), refers=refers)
        said = self._said("restore", **found)
        groups = (key,) if found["eq"] in said else ()
        narrator.add(said, "takeback", groups=groups, refers=[gone], revokes=[gone])
        if self._rng.random() < 0.5:
            self._about(key, self._said("repeat", **found), "repeat", found)

    def restart(self) -> None:
        """Begin again: some right facts are said once more."""
        narrator = self._narrator
        keys = [key for key in narrator.first if key in narrator.needed]
        if narrator.trouble is not None or len(keys) < 2:
            return
        narrator.say("restart")
        for key in keys[: self._rng.choice((2, 3))]:
            said = telling.clause(
                narrator.right[key], narrator.voice, plain=self._rng.random() < 0.4
            )
            narrator.about(key, said, "repeat")

    def again(self) -> None:
        """The way so far once more, step by step and briefly."""
        narrator = self._narrator
        keys = [key for key in narrator.needed if key in narrator.first]
        if narrator.trouble is not None or len(keys) < 3:
            return
        narrator.say("again_open")
        for key in keys[:8]:
            narrator.about(
                key, telling.clause(narrator.right[key], narrator.voice, plain=True), "repeat"
            )

    def _told(self, *, right: bool = False) -> str | None:
        narrator = self._narrator
        keys = [
            key
            for key in narrator.stated
            if key in narrator.right and not (right and narrator.beliefs.fact(key).wrong)
        ]
        return self._rng.choice(keys[-6:]) if keys else None

    def _target(self) -> str:
        return self._rng.choice(self._narrator.problem.target)
