"""Variables of a model's chat template that a client sets (`chat_template_kwargs`).

Which there are is the template's to say; what values they may have is the renderer's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Environment, TemplateError, meta

from extracot.errors import PromptError
from extracot.prompt import Tokenizer
from extracot.switches import check_switches
from extracot_server.api.budget_readers import LIMIT, Say
from extracot_server.errors import InvalidRequestError
from extracot_server.profiles.profile import Profile

_PARSER = Environment(autoescape=True, extensions=["jinja2.ext.loopcontrols"])
_UNSUPPORTED = "unsupported_parameter"
# transformers' own tag, which says what a template of training data has from the assistant
_GENERATION = re.compile(r"\{%[-+]?\s*(?:end)?generation\s*[-+]?%\}")


def taken_by(tokenizer: Tokenizer) -> frozenset[str]:
    """The variables that a tokenizer's chat template looks at and a request may set."""
    source = getattr(tokenizer, "chat_template", None)
    texts = source.values() if isinstance(source, Mapping) else [source]
    found = [_looked_up(text) for text in texts if isinstance(text, str)]
    return frozenset().union(*found)


@lru_cache(maxsize=64)
def _looked_up(source: str) -> frozenset[str]:
    try:
        names = meta.find_undeclared_variables(_PARSER.parse(_GENERATION.sub("", source)))
    except TemplateError:
        return frozenset()  # of no use to a prompt either, which the server has said at its start
    return frozenset(filter(_may_be_set, names))


def _may_be_set(name: str) -> bool:
    try:
        check_switches({name: True})
    except PromptError:
        return False
    return True


def read_variables(says: Sequence[Say], tokenizer: Tokenizer) -> dict[str, Any]:
    """The variables that a body's words set, of those that the template takes.

    What is read as a budget (`enable_thinking`) may be sent to any model, and is left out here
    where its template has no such variable. Raises :class:`InvalidRequestError` for others, and for
    one that is given twice with different values.
    """
    given = [(say.field, *say.variable) for say in says if say.variable is not None]
    if not given:
        return {}
    taken = taken_by(tokenizer)
    budgets = {say.field for say in says if say.budgets}
    found: dict[str, Any] = {}
    fields: dict[str, str] = {}
    for field, name, value in given:
        if name in found and not _same(found[name], value):
            text = f"`{fields[name]}` and `{field}` disagree: send only one of them."
            raise InvalidRequestError(text, param=field)
        if name in taken:
            found[name], fields[name] = value, field
        elif field not in budgets:
            what = "is no variable that a request may set of this model's chat template, which "
            hint = "; to bound the reasoning use `budget`."
            raise InvalidRequestError.of(field, what + _listed(taken) + hint, _UNSUPPORTED)
    return found


def said_by_variables(says: Sequence[Say], profile: Profile) -> list[Say]:
    """What variables say of the reasoning that are this family's own (`thinking_mode`)."""
    found: list[Say] = []
    known = {say.field for say in says if say.budgets}
    for say in says:
        if say.variable is None or say.field in known:
            continue
        name, value = say.variable
        switch = profile.switches.get(name)
        if switch is not None and _same(value, switch.off):
            found.append(Say(say.field, thinks=False))
        elif switch is not None and _same(value, switch.on):
            found.append(Say(say.field, thinks=True))
        elif name == profile.budget_switch:
            found += LIMIT.read(value, say.field)
    return found


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and bool(value == other)


def _listed(taken: Collection[str]) -> str:
    return f"takes {', '.join(sorted(taken))}" if taken else "takes none"
