"""The variables of a chat template's own, such as ``enable_thinking``: which may be set, to what.

Knows nothing of messages. A value may come from a client, so it can bring no token of the
template's, and none of the variables that are a prompt's content or form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from extracot.errors import PromptError

FIELD = "chat_template_kwargs"
"""Under this name errors speak of switches, as clients know them."""

# What `apply_chat_template` takes itself, what a template is given besides, and tokens.
_RESERVED_LIST = """
    conversation conversations messages tools documents chat_template add_generation_prompt
    continue_final_message tokenize padding truncation max_length return_tensors return_dict
    return_assistant_tokens_mask tokenizer_kwargs self raise_exception strftime_now namespace
    range dict lipsum cycler joiner loop
"""
_RESERVED = frozenset(_RESERVED_LIST.split())
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.,:+-]{0,63}|")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def check_switches(switches: Mapping[str, Any]) -> None:
    """Raise :class:`PromptError`, with the field, for what is no switch or no value of one.

    A value is true, false, null, a number or a word.
    """
    for name, value in switches.items():
        field = f"{FIELD}.{name}"
        if name in _RESERVED or name.endswith("_token") or not _NAME.fullmatch(name):
            raise PromptError("is not a variable that a request may set", field=field)
        if isinstance(value, str) and (not _WORD.fullmatch(value) or "qxz" in value.lower()):
            raise PromptError("must be a word of letters and digits", field=field)
        if value is not None and not isinstance(value, bool | int | float | str):
            raise PromptError("must be true, false, null, a number or a word", field=field)
