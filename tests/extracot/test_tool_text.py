"""Placeholders: whatever a template does to a text, the text comes out as if it had seen it."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extracot import Control, Message, PromptError, PromptRenderer, ToolCall
from tests.extracot import zoo

USER = "{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}]{% endif %}{% endfor %}"
CALLS = "{% for c in (messages[1].tool_calls if messages | length > 1 else []) %}"
# What templates do with the values and keys of arguments, and with results.
WAYS = {
    "json": "{{ c.function.arguments | tojson }}",
    "ascii json": "{{ c.function.arguments | tojson(ensure_ascii=True) }}",
    "json in json": "{{ c.function.arguments | tojson | tojson }}",
    "python": "{{ c.function.arguments | string }}",
    "plain": "{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }};{% endfor %}",
    "sorted": "{% for k, v in c.function.arguments | dictsort %}{{ k }}={{ v }};{% endfor %}",
    "escaped": "{% for k, v in c.function.arguments.items() %}{{ k | e }}={{ v | e }};{% endfor %}",
    "attribute": (
        "{% for k, v in c.function.arguments.items() %}"
        "{{ v | replace('&', '&amp;') | replace('\"', '&quot;') }}{% endfor %}"
    ),
    "quoted": (
        "{% for k, v in c.function.arguments.items() %}'{{ v | replace('\\\\', '\\\\\\\\')"
        " | replace(\"'\", \"\\\\'\") | replace('\\n', '\\\\n') }}'{% endfor %}"
    ),
    "wrapped where it must be": (
        "{% for k, v in c.function.arguments.items() %}"
        "{% if '<' in v or '&' in v or '\\n' in v %}<![CDATA[{{ v }}]]>{% else %}{{ v }}{% endif %}"
        "{% endfor %}"
    ),
    "trimmed": "{% for k, v in c.function.arguments.items() %}{{ v | trim }};{% endfor %}",
    "a sentence": (
        "{% for k, v in c.function.arguments.items() %}{{ v if v.endswith('.') else v ~ '.' }}"
        "{% endfor %}"
    ),
}
SORTED_JSON = "{{ c.function.arguments | tojson(sort_keys=True) }}"
TEXTS = st.text(
    st.sampled_from("ab Z'\"\\&<>\n\té’😀.{}") | st.characters(exclude_categories=["Cs", "Cc"]),
    min_size=1,
    max_size=12,
)


@functools.cache
def made(template: str) -> tuple[PromptRenderer, Any]:
    tokenizer: Any = copy.deepcopy(zoo.tokenizer("bytes", "chatml"))
    tokenizer.chat_template = template
    return PromptRenderer(tokenizer), tokenizer


def printable(text: str) -> str:
    return "".join(filter(str.isprintable, text))


def both(template: str, arguments: dict[str, str], result: str = "r") -> tuple[str, str]:
    """The prompt as we make it, and as the template makes it of what the client said."""
    render, tokenizer = made(template)
    messages = [
        Message("user", "q"),
        Message("assistant", "", (ToolCall("f", arguments, "c1"),)),
        Message("tool", result, tool_call_id="c1"),
    ]
    ours = tokenizer.decode(list(render.render(messages, Control.native()).token_ids))
    call = {"id": "c1", "function": {"name": "f", "arguments": arguments}}
    own = tokenizer.apply_chat_template(
        [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": result, "name": "f"},
        ],
        tokenize=False,
    )
    return str(ours), str(own)


@pytest.mark.parametrize("way", WAYS)
@given(arguments=st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=4))
def test_arguments(way: str, arguments: dict[str, str]) -> None:
    template = USER + CALLS + "({{ c.function.name }})" + WAYS[way] + "{% endfor %}"
    template += "{{ messages[2].content if messages | length > 2 }}"
    if way == "sorted":  # names that sort by more than letters are not parameters of functions
        arguments = {f"p{n}": value for n, value in enumerate(arguments.values())}
    if way == "python":  # of what cannot be printed it writes the number
        arguments = {printable(key): printable(value) for key, value in arguments.items()}
    ours, own = both(template, arguments)
    assert ours == own


@given(result=TEXTS)
@example(result=".")
@example(result=" . ")
@example(result="..")
@pytest.mark.parametrize(
    "way", ["{{ r }}", "{{ r | trim }}", "{{ r | tojson }}", "{{ r.strip() }}"]
)
def test_results(way: str, result: str) -> None:
    template = USER + CALLS + WAYS["json"] + "{% endfor %}"
    template += "{% if messages | length > 2 %}{% set r = messages[2].content %}<" + way
    template += ">{% endif %}"
    ours, own = both(template, {"a": "b"}, result)
    assert ours == own


@pytest.mark.parametrize("way", [WAYS["sorted"], SORTED_JSON])
@given(
    keys=st.lists(
        st.sampled_from(["type", "zip", "city", "Name", "description", "a", "required", "x"])
        | st.text("abz", min_size=1, max_size=3),
        unique_by=str.lower,
        min_size=2,
    )
)
def test_sorted_keys_are_in_their_own_order(way: str, keys: list[str]) -> None:
    keys = [key.lower() for key in keys] if way == SORTED_JSON else keys
    template = USER + CALLS + "({{ c.function.name }})" + way + "{% endfor %}"
    template += "{{ messages[2].content if messages | length > 2 }}"
    ours, own = both(template, {key: "v" for key in keys})
    assert ours == own


@pytest.mark.parametrize(
    "way",
    [
        "{{ c.function.arguments | tojson | urlencode }}",
        "{{ (c.function.arguments | tojson)[:20] }}",
        "{{ (c.function.arguments | tojson).upper() }}",
    ],
)
def test_what_a_template_does_beyond_that_is_refused(way: str) -> None:
    template = USER + CALLS + "({{ c.function.name }})" + way + "{% endfor %}"
    template += "{{ messages[2].content if messages | length > 2 }}"
    with pytest.raises(PromptError, match="not supported") as caught:
        both(template, {"city": 'Bern "BE"'})
    # Where the number of the placeholder is cut off, it cannot be said whose it was.
    assert caught.value.field == ("messages" if "[:20]" in way else "messages[1].tool_calls[0]")


def test_a_long_run_of_white_space_costs_no_more_than_its_length() -> None:
    """One that is looked at again from each of its characters would take minutes."""
    ours, own = both(
        USER
        + CALLS
        + WAYS["json"]
        + "{% endfor %}{{ messages[2].content if messages | length > 2 }}",
        {"a": "b"},
        "x" + " " * 200_000 + "y",
    )
    assert ours == own
