"""Says one fact in words: as a clause, or as an expression and then its value.

Right and wrong facts are said alike, so that nothing but what comes later tells them apart. This
module does not know what has been told before.
"""

from __future__ import annotations

from extracot_training.synthetic.reasoning.facts import Fact, tex
from extracot_training.synthetic.reasoning.grammar import Voice


def slots(fact: Fact, voice: Voice, *, symbol: bool = False) -> dict[str, str]:
    """What the grammar can say of this fact. ``eq`` is its formula with its value, and with its
    ``symbol`` before that."""
    rng = voice.rng
    value = tex(fact.value)
    expr = rng.choice(fact.expr) if fact.expr else ""
    unit = f" {fact.unit}" if fact.unit and rng.random() < 0.7 else ""
    what = rng.choice(fact.what) if fact.what else ""
    named = what == f"${fact.symbol}$"
    parts = (
        [fact.symbol]
        if fact.symbol and not named and (symbol or not expr or rng.random() < 0.6)
        else []
    )
    parts += [part for part in (expr, value) if part]
    if len(parts) > 1 and parts[-1] == parts[-2]:
        parts.pop()
    found = {
        "eq": f"${' = '.join(parts)}${unit}",
        "expr": f"${expr.split(' = ')[0]}$" if expr else f"${value}$",
        "value": f"${value}${unit}",
    }
    if what:
        found["what"] = f"{{{what}}}"
    if fact.why:
        found["why"] = rng.choice(fact.why)
    if fact.says:
        found["clause"] = rng.choice(fact.says)
    return found


def clause(fact: Fact, voice: Voice, *, plain: bool = False) -> str:
    """The whole fact as one clause. ``plain``: short, to be part of a longer sentence."""
    found = slots(fact, voice)
    rng = voice.rng
    if fact.says:
        if plain:
            return found["clause"]
        why = fact.why and rng.random() < 0.4
        return voice.say("claim_why" if why else "claim", **found)
    if not fact.what:
        return voice.say("symbol_only", **found)
    if not fact.expr or found["expr"] == f"${tex(fact.value)}$":
        return voice.say("state_value", **found)
    if plain:
        return voice.say("short", **found)
    if fact.why and rng.random() < 0.6:
        return voice.say("state_why", **found)
    if fact.symbol and rng.random() < 0.35:
        return voice.say("symbol_only", **slots(fact, voice, symbol=True))
    return voice.say("state", **found)


def can_split(fact: Fact) -> bool:
    """Whether its expression and its value can be told apart."""
    return bool(fact.what and fact.expr and not fact.says and tex(fact.value) != fact.expr[0])


def halves(fact: Fact, voice: Voice) -> tuple[str, str]:
    """The expression, and in another sentence what it comes to."""
    found = slots(fact, voice)
    return voice.say("expr_first", **found), voice.say("value_then", **found)


def displayed(fact: Fact, voice: Voice) -> tuple[str, str]:
    """Words that name it, and its formula set apart."""
    found = slots(fact, voice)
    begun = voice.say("display_open", **found).removesuffix(",") + voice.rng.choice((":", ""))
    return begun, f"$!{found['eq'].split('$')[1]}$"
