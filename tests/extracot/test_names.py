"""What the package exports, and that it stays light."""

from __future__ import annotations

import subprocess
import sys

import extracot


def test_every_exported_name_is_there_and_sorted() -> None:
    assert len(set(extracot.__all__)) == len(extracot.__all__)
    for name in extracot.__all__:
        assert getattr(extracot, name) is not None
    assert extracot.__version__.count(".") == 2


def test_errors_have_one_root() -> None:
    errors = (extracot.CardError, extracot.PromptError, extracot.ControlTokenError)
    assert all(issubclass(error, extracot.ExtracotError) for error in errors)
    assert issubclass(extracot.ExtracotError, Exception)


def test_errors_say_where() -> None:
    error = extracot.CardError("must be one id", field="levels[0].token", path="card.json")
    assert str(error) == "card.json: levels[0].token: must be one id"
    assert (error.field, error.path) == ("levels[0].token", "card.json")
    prompt = extracot.PromptError("must not be empty", field="messages[2].content")
    assert str(prompt) == "messages[2].content: must not be empty"
    assert (str(extracot.PromptError("no")), extracot.PromptError("no").field) == ("no", None)


def test_importing_brings_nothing_heavy() -> None:
    code = (
        "import sys, extracot\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'vllm', 'fastapi', 'jinja2'}\n"
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
