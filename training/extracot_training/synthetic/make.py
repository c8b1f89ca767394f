"""Seeded word problems: problem ``i`` of a seed is the same in every process, for every count."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from extracot_training.config.messages import near_miss
from extracot_training.errors import ConfigError, TrainingError
from extracot_training.synthetic import interleaved
from extracot_training.synthetic.families import FAMILIES, Family
from extracot_training.synthetic.narrate import Narrator, brief, brief_final, terse
from extracot_training.synthetic.story import Draw, Reject, Story, WordProblem

# Under the smallest caps about one draw in ten fits; this many misses mean that none ever will.
ATTEMPTS = 2000
# Several stories fit together far more rarely than one fits by itself.
ATTEMPTS_TOGETHER = 20_000


class GeneratorError(TrainingError):
    """No problem of this family fits the cap and the number of steps."""


@dataclass(frozen=True, slots=True)
class Generator:
    """Makes problems of the named families (``None``: all that work under the cap).

    ``max_number`` bounds every number in the question, the steps and the answer; ``steps`` is the
    inclusive range of equations; ``verbosity`` (0 to 1) is how talkative the traces are. Raises
    :class:`ConfigError` for an unknown family, one that can't work under the cap or has no problem
    with such a number of steps, and an empty choice.

    ``threads`` above 1 makes problems of that many stories, all worked through in one trace, with a
    question about one of them (see :mod:`interleaved`); ``steps`` then counts those of each story,
    and ``verbosity`` plays no part. Families that name nobody are left out, or refused if named.
    ``asked`` says for how many of them a question may ask, each number alike often (named twice,
    twice as often); of several it asks for the sum, which ``max_number`` bounds too.
    ``distinct``: no two stories of a problem are of one family; ``interleaved``: their steps are
    mixed in the trace, else one story is worked through after the other. ``thorough``: so told,
    every story is announced, concluded and checked, and the answer names whose it is.
    """

    seed: int
    max_number: int = 1000
    steps: tuple[int, int] = (2, 8)
    families: tuple[str, ...] | None = None
    verbosity: float = 1.0
    threads: int = 1
    distinct: bool = False
    interleaved: bool = True
    thorough: bool = False
    asked: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ConfigError(f"threads {self.threads}: want 1 or more", key="threads")
        if self.thorough and self.interleaved:
            raise ConfigError("thorough: wants interleaved: false", key="thorough")
        if not self.asked or not all(1 <= count <= self.threads for count in self.asked):
            raise ConfigError(
                f"asked {list(self.asked)}: want numbers of stories within 1..{self.threads}",
                key="asked",
            )
        families = len(self.chosen())
        if self.distinct and families < self.threads:
            raise ConfigError(
                f"distinct: {self.threads} threads want as many families, there are {families}",
                key="distinct",
            )

    def chosen(self) -> Sequence[Family]:
        """The families drawn from, by name."""
        if self.families is None:
            fitting = [f for _, f in sorted(FAMILIES.items()) if self._misfit(f) is None]
            if not fitting:
                raise ConfigError(f"no family works with max_number {self.max_number}")
            return fitting
        for name in self.families:
            if name not in FAMILIES:
                raise ConfigError(f"unknown family {name!r}{near_miss(name, list(FAMILIES))}")
            if misfit := self._misfit(FAMILIES[name]):
                raise ConfigError(f"family {name!r} {misfit}")
        if not self.families:
            raise ConfigError("the list of families is empty")
        return [FAMILIES[name] for name in sorted(set(self.families))]

    def make(self, count: int) -> Iterator[WordProblem]:
        """Problems 0..count-1."""
        return (self.problem(index) for index in range(count))

    def problem(self, index: int) -> WordProblem:
        """Problem ``index``: families take turns in an order drawn per round, so all occur alike.

        Raises :class:`GeneratorError` when :data:`ATTEMPTS` draws gave no fitting problem.
        """
        families = self.chosen()
        turn, place = divmod(index, len(families))
        family = Random(f"{self.seed}:order:{turn}").sample(families, len(families))[place]
        if self.threads > 1:
            return self._interleaved(index, family, families)
        rng = Random(f"{self.seed}:{index}:{family.name}")
        story = self._story(family, rng)
        return _told(index, family, story, Narrator(story, rng, self.verbosity))

    def _story(self, family: Family, rng: Random, *, alone: bool = True) -> Story:
        """A story that fits the cap; if not ``alone``, one that could be told among others."""
        low, high = max(self.steps[0], family.steps[0]), min(self.steps[1], family.steps[1])
        for _ in range(ATTEMPTS):
            story = Story(self.max_number)
            try:
                family.write(Draw(rng, self.max_number, rng.randint(low, high)), story)
            except Reject:
                continue
            if alone or interleaved.well_posed([story]):
                return story
        raise GeneratorError(
            f"family {family.name!r}: no problem with {low} to {high} steps fits "
            f"max_number {self.max_number}"
        )

    def _interleaved(self, index: int, asked: Family, families: Sequence[Family]) -> WordProblem:
        """A problem of several stories, about one of family ``asked``, at any place among them, and
        perhaps about further ones."""
        rng = Random(f"{self.seed}:{index}:threads:{self.threads}")
        place = rng.randrange(self.threads)
        for _ in range(ATTEMPTS_TOGETHER):
            if self.distinct:
                chosen = rng.sample([f for f in families if f is not asked], self.threads - 1)
                chosen.insert(place, asked)
            else:
                chosen = [rng.choice(families) for _ in range(self.threads)]
                chosen[place] = asked
            stories = [self._story(family, rng, alone=False) for family in chosen]
            if not interleaved.well_posed(stories, max(self.asked), self.max_number):
                continue
            told = [
                interleaved.InterleavedStory(interleaved.people(story)[0], family.name, story)
                for family, story in zip(chosen, stories, strict=True)
            ]
            trace = interleaved.tell(
                told, rng, interleaved=self.interleaved, thorough=self.thorough
            )
            # Drawn last: stories and trace are the same whatever is asked.
            places = self._asked(place, rng)
            return interleaved.problem(index, told, places, trace, rng, named=self.thorough)
        raise GeneratorError(
            f"family {asked.name!r}: no {self.threads} stories under max_number {self.max_number} "
            "go together; want fewer threads or a larger max_number"
        )

    def _asked(self, place: int, rng: Random) -> list[int]:
        """The places of the stories asked for, ``place`` and perhaps others, in any order."""
        if set(self.asked) == {1}:
            return [place]
        others = [other for other in range(self.threads) if other != place]
        more = rng.choice(self.asked) - 1
        return rng.sample([place, *rng.sample(others, more)], 1 + more)

    def _misfit(self, family: Family) -> str | None:
        if family.min_cap > self.max_number:
            return f"needs max_number of at least {family.min_cap}"
        if self.threads > 1 and family.name in interleaved.FAMILIES_WITHOUT_NAMES:
            return "names nobody, so it can't be one of several threads"
        if family.steps[0] > self.steps[1] or family.steps[1] < self.steps[0]:
            return f"has {family.steps[0]} to {family.steps[1]} steps, which is outside the range"
        return None


def _told(index: int, family: Family, story: Story, narrator: Narrator) -> WordProblem:
    return WordProblem(
        index=index,
        family=family.name,
        question=story.text,
        answer=story.answer.value,
        steps=len(story.steps),
        trace=narrator.verbose(),
        terse=terse(story),
        final=narrator.final(),
        brief=brief(story),
        brief_final=brief_final(story),
        numbers=tuple(given.value for given in story.givens),
        stories=(interleaved.without_names(story),),
        families=(family.name,),
    )


def digest(problems: Sequence[WordProblem]) -> str:
    """A short hash over questions and traces, to tell whether two runs made the same problems."""
    joined = "\0".join(f"{problem.question}\0{problem.trace}" for problem in problems)
    return hashlib.sha256(joined.encode("utf-8")).hexdigest()[:16]
