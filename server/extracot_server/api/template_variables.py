"""Variables of a model's chat template that a client sets (`chat_template_kwargs`).

Which there are is the template's to say. A value is a word, a number or a switch: text that a
template writes into a prompt as its own must not be able to spell one of its tokens.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from extracot_server.api.budget_readers import Say
from extracot_server.budget.values import shown
from extracot_server.errors import InvalidRequestError

_TEXT = re.compile(r"[A-Za-z0-9 .,:;!?'\"()/_+*%&@=-]{0,200}")


def read_variables(says: Sequence[Say], taken: Collection[str]) -> dict[str, Any]:
    """The variables that a body's words set, of those that the template takes (``taken``).

    What is read as a budget (`enable_thinking`) may be sent to any model, and is left out here
    where its template has no such variable. Raises :class:`InvalidRequestError` for others.
    """
    found: dict[str, Any] = {}
    budgets = {say.field for say in says if say.budgets}
    for say in says:
        if say.variable is None:
            continue
        name, value = say.variable
        if name not in taken:
            if say.field in budgets:
                continue
            what = f"is no variable of this model's chat template, which {_listed(taken)}; "
            what += "to bound the reasoning use `budget`."
            raise InvalidRequestError.of(say.field, what, "unsupported_parameter")
        if isinstance(value, list | dict) or (
            isinstance(value, str) and not _TEXT.fullmatch(value)
        ):
            what = f"is {shown(value)}. Allowed: true, false, a number, or a text of at most 200 "
            what += "letters, digits and common punctuation, without brackets."
            raise InvalidRequestError.of(say.field, what)
        found[name] = value
    return found


def _listed(taken: Collection[str]) -> str:
    return f"takes {', '.join(sorted(taken))}" if taken else "takes none"
