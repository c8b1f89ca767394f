"""What profiles tell templates, by every published one: its own prompt, and nothing besides."""

from __future__ import annotations

from typing import Any

import pytest

from extracot import Control, Message
from extracot_server.budget.resolve import (
    BudgetKind,
    BudgetPolicy,
    BudgetSources,
    ResolvedBudget,
    resolve_budget,
)
from extracot_server.budget.telling import told
from extracot_server.budget.values import BudgetSpec
from extracot_server.config.effort_map import DEFAULT_EFFORT_MAP
from extracot_server.profiles.choice import choose
from extracot_server.profiles.fit import ModelFacts
from tests.extracot.real_templates import TEMPLATES

POLICY = BudgetPolicy(efforts=DEFAULT_EFFORT_MAP, assumed_baseline=4096)  # type: ignore[arg-type]
PROFILES = {
    name: choose(None, None, ModelFacts(template.tokenizer)).profile
    for name, template in TEMPLATES.items()
}
KNOWN = [name for name, profile in PROFILES.items() if profile.name != "unknown"]
BUDGETS: dict[str, tuple[BudgetSpec | None, str | None]] = {
    "nothing": (None, None),
    "none": (BudgetSpec("none", given="none"), None),
    "native": (BudgetSpec("native", given="native"), None),
    "0.1": (BudgetSpec(0.1, given=0.1), None),
    "1.0": (BudgetSpec(1.0, given=1.0), None),
    **{f"effort {effort}": (None, effort) for effort in DEFAULT_EFFORT_MAP},
}


def own_text(name: str, variables: dict[str, Any]) -> str:
    """The template's own prompt for one question."""
    return str(
        TEMPLATES[name].tokenizer.apply_chat_template(
            [{"role": "user", "content": "How warm is it?"}],
            tokenize=False,
            add_generation_prompt=True,
            **variables,
        )
    )


def asked(name: str, budget: str) -> tuple[ResolvedBudget, dict[str, Any], str, bool]:
    """How a budget is run, what is told, our prompt, and whether it ends in a block."""
    spec, effort = BUDGETS[budget]
    resolved = resolve_budget(BudgetSources(spec, None, effort), None, POLICY)
    variables = told(PROFILES[name], resolved, POLICY)
    control = {BudgetKind.NONE: Control.none(), BudgetKind.CAP: Control.open()}.get(
        resolved.kind, Control.native()
    )
    template = TEMPLATES[name]
    message = Message("user", "How warm is it?")
    rendered = template.renderer.render([message], control, switches=variables)
    text = template.tokenizer.decode(list(rendered.token_ids), skip_special_tokens=False)
    return resolved, variables, text, rendered.in_reasoning


def plain(text: str) -> str:
    """Without white space, which some stand-ins for vocabularies do not give back."""
    return "".join(text.split())


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", KNOWN)
def test_a_prompt_is_the_templates_own_with_what_is_told(name: str, budget: str) -> None:
    resolved, variables, text, in_reasoning = asked(name, budget)
    traits = TEMPLATES[name].renderer.traits  # an edition may have a switch that its family has not
    found = (traits.off or {}) if resolved.kind is BudgetKind.NONE else traits.on
    own = plain(own_text(name, {**found, **variables}))
    if resolved.kind is BudgetKind.NATIVE:
        assert plain(text) == own
    elif resolved.kind is BudgetKind.CAP:
        opened = plain(TEMPLATES[name].tags.start)
        assert plain(text) in (own, own + opened)
        assert in_reasoning
    else:
        assert not in_reasoning
        assert plain(text) == own if traits.off else plain(text).startswith(own)
