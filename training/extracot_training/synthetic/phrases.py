"""The wordings a trace is told in, and drawing from them without repeating soon."""

from __future__ import annotations

from random import Random

BANKS: dict[str, tuple[str, ...]] = {
    "open": (
        "Okay, let me read the problem carefully first.",
        "Alright, so I need to work through this word problem.",
        "Let me think about this step by step.",
        "Okay, so here is the problem I have to solve.",
        "Hmm, let me start by understanding what is going on here.",
        "Right, let me take this slowly so that I don't miss anything.",
    ),
    "restate": (
        "The problem says: {facts}",
        "So here is what I am told. {facts}",
        "Let me restate it. {facts}",
        "In the text it says the following: {facts}",
        "What do I know? {facts}",
    ),
    "ask": (
        "And the question is: {ask}",
        "What I have to find out is this: {ask}",
        "And then it asks: {ask}",
        "The thing I am looking for: {ask}",
    ),
    "goal": (
        "So in the end I need {what}.",
        "So the number I am after is {what}.",
        "In other words, the goal is {what}.",
        "That means I should end up with {what}.",
    ),
    "givens": (
        "Let me collect the numbers that are given: {givens}.",
        "The given numbers, one by one: {givens}.",
        "Let me write down the numbers so that I don't mix them up: {givens}.",
        "From the text I take these values: {givens}.",
    ),
    "givens_list": (
        "Let me collect the numbers that are given:",
        "The given numbers are these:",
        "Let me make a list of the numbers so that I don't mix them up:",
        "From the text I take these values:",
    ),
    "plan": (
        "My plan is like this. First I work out {first}. {rest}",
        "Let me make a plan. I start with {first}. {rest}",
        "How do I get there? I think I should begin with {first}. {rest}",
        "So what would be a good order? To begin with, I want {first}. {rest}",
    ),
    "plan_next": (
        "After that, {what}.",
        "Then {what}.",
        "Next comes {what}.",
        "Then I need {what}.",
    ),
    "plan_last": (
        "And finally {what}, which is what the question asks for.",
        "The last thing is {what}, and that is the answer.",
        "At the end I get {what}, and then I am done.",
    ),
    "hedge": (
        "Hmm, okay.",
        "I think that makes sense.",
        "That seems fine to me.",
        "Alright, let me go on.",
        "Good, that looks reasonable.",
        "Okay, moving on.",
        "So far so good, I believe.",
        "Let me be careful here.",
        "I am fairly sure about this part.",
    ),
    "step": (
        "Now let me find {what}.",
        "The next thing is {what}.",
        "Okay, so what about {what}?",
        "Let me work out {what} now.",
        "Next I need {what}.",
    ),
    "step_first": (
        "Let me start with {what}.",
        "First of all, {what}.",
        "I begin with {what}.",
        "Step one is {what}.",
    ),
    "add": (
        "For this I have to put {terms} together.",
        "I add up {terms}.",
        "That is the sum of {terms}.",
        "It is {terms}, all added.",
    ),
    "sub": (
        "I take {b} away from {a}.",
        "I start from {a} and subtract {b}.",
        "That is {a} minus {b}.",
    ),
    "mul": (
        "I multiply {a} by {b}.",
        "That is {a} times {b}.",
        "I have to take {a} and multiply it by {b}.",
    ),
    "div": (
        "I divide {a} by {b}.",
        "That is {a} divided by {b}.",
        "I have to split {a}, so I divide by {b}.",
    ),
    "equation": (
        "So {eq}.",
        "That gives {eq}.",
        "So I compute {eq}.",
        "I get {eq}.",
        "This is {eq}.",
        "Computing that, {eq}.",
    ),
    "result": (
        "So {what} is {amount}.",
        "That means {what} comes to {amount}.",
        "Okay, {what}: {amount}.",
        "So I note that {what} is {amount}.",
        "Therefore {what} is {amount}.",
    ),
    "not_yet": (
        "Wait, do I already have to use {what}? No, that only comes in later.",
        "Hmm, should {what} go in here too? I don't think so, that is for later.",
        "Wait, what about {what}? I will need that, but not at this point.",
    ),
    "reread": (
        'Let me read the question again: "{ask}" Yes, so {what} alone is not enough.',
        'Wait, what exactly was asked? "{ask}" Right, so I am not finished with {what}.',
        'Hold on, the question was: "{ask}" Okay, so {what} is only a part of the way.',
    ),
    "not_adding": (
        "For a moment I wanted to add these two numbers, but no, here I have to multiply.",
        "Should I add them? No, one number counts how often the other one occurs, so I multiply.",
        "At first I thought of a sum, but that would be wrong, it has to be a product.",
    ),
    "not_the_other_way": (
        "The order matters here, so what I take from has to stay in front.",
        "I should be careful about the direction: it is this way round and not the other.",
        "Wait, is it this way round? Yes, the second number is what gets taken away.",
    ),
    "shares": (
        "Everybody or everything gets the same, so dividing is the right idea.",
        "Hmm, is there anything left over? No, the division works out evenly.",
        "It has to come out as a whole number, and it does.",
    ),
    "recompute": (
        "Let me do that once more in a different way: {eq}. Okay, the same.",
        "Just to be safe, the other way: {eq}. Yes.",
        "Quick check of this one: {eq}. Good.",
    ),
    "summary": (
        "Let me sum up where I am: {results}.",
        "So up to now I have the following: {results}.",
        "To repeat what I have found so far: {results}.",
    ),
    "check_open": (
        "Before I answer, let me double-check this.",
        "Let me verify the result by another route.",
        "I want to be sure, so let me check it again.",
        "Wait, let me make sure that there is no mistake.",
    ),
    "back_open": (
        "I go backwards from the result, which was {amount}.",
        "I start from the end, {amount}, and undo every step.",
        "Working backwards from {amount}:",
    ),
    "back_step": (
        "{eq}, and that is {what} again.",
        "{eq}, which matches {what}.",
        "{eq}, so {what} is right.",
    ),
    "whole": (
        "Putting everything into one line, {eq}.",
        "As a single calculation it is {eq}.",
        "If I write it all at once, I get {eq}.",
    ),
    "again_open": (
        "I just run through the numbers a second time.",
        "Let me go over the steps again with the terms swapped where I can.",
        "Once more from the top, quickly.",
    ),
    "check_close": (
        "Great, everything fits.",
        "Yes, that is consistent.",
        "Okay, that agrees with what I had.",
        "So the result holds up.",
        "Good, both ways lead to the same number.",
    ),
    "sense": (
        "Does the number make sense? It answers exactly what was asked, so I think yes.",
        "The size of the number also seems plausible to me for this situation.",
        "And I have used all the numbers from the text that matter, I believe.",
        "And the unit fits as well, since the question asks for exactly this.",
    ),
    "conclude": (
        "So the answer is {value}.",
        "Therefore, the final answer is {value}.",
        "So I can say that {what} is {amount}. The answer is {value}.",
        "That settles it, the answer is {value}.",
        "So the final answer should be $\\boxed{{{value}}}$.",
    ),
    "answer": (
        "{reply}\n\n\\boxed{{{value}}}",
        "{reply} The answer is \\boxed{{{value}}}.",
        "{reply}\n\nThe final answer is $\\boxed{{{value}}}$.",
    ),
}


class Phrases:
    """Draws from :data:`BANKS`; within one text a wording comes back only when all were used."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._left: dict[str, list[str]] = {}

    def say(self, bank: str, **values: object) -> str:
        """A wording of ``bank`` with its blanks filled, its first letter upper case."""
        if not self._left.get(bank):
            self._left[bank] = self._rng.sample(BANKS[bank], len(BANKS[bank]))
        text = self._left[bank].pop().format(**values)
        return text[:1].upper() + text[1:]
