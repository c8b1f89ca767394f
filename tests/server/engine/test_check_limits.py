"""What a schema may cost before a token: nothing is compiled, and nothing holds the event loop."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from extracot_server.engine import grammar_checks, schema_checks, schema_ends
from extracot_server.engine.base import AnswerFormat, EngineBusyError, EngineRequestError
from extracot_server.engine.grammar_checks import GrammarChecks
from extracot_server.engine.schema_checks import check_format
from extracot_server.tool_calls.tools import ToolUse
from tests.server.live import serve, user

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
FLAGS = ["(?i)[a-c]", "(?i:[a-d])", "(?s-i:a)", "(?i-s:[a-e])", "(?-i:a)", "(?aiLmsux)b", "(?^i:a)"]
PLAIN = ["[a-f]{2,3}", "^(ab|ac)+$", "[^g-k]", "a?b*c+", "(?P<name>a)(?P=name)", "(?=a)b"]


def of(schema: Any) -> AnswerFormat:
    return AnswerFormat("json_schema", schema, "format.schema")


def counting(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """The first arguments with which a function is called."""
    seen: list[Any] = []
    real: Callable[..., Any] = getattr(owner, name)

    def counted(*given: Any) -> Any:
        seen.append(given[0])
        return real(*given)

    monkeypatch.setattr(owner, name, counted)
    return seen


def test_a_clients_pattern_is_never_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler: Any = re._compiler  # type: ignore[attr-defined]
    compiled = counting(monkeypatch, compiler, "compile")
    re.compile("own (a|b)")
    assert compiled == ["own (a|b)"], "what is compiled is counted"
    for pattern in (*FLAGS, *PLAIN):
        check_format(of({"type": "string", "pattern": pattern}))
        check_format(of({"patternProperties": {pattern: {}}, "required": ["ab", "cd"]}))
    for text in ("own text", "^own", "own$", "^own-text$"):
        check_format(of({"patternProperties": {text: {}}, "required": ["ab", "cd"]}))
    assert len(compiled) == 1


def test_groups_with_flags_are_the_backends_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = counting(monkeypatch, schema_checks.python_patterns, "parse")
    for pattern in (*FLAGS, "[[a]b]", "[^[a]]", "[a--b]", "[a~~b]", "[a||b]"):
        check_format(of({"type": "string", "pattern": pattern}))
    assert parsed == []
    check_format(of({"type": "string", "pattern": PLAIN[0]}))
    assert parsed == PLAIN[:1]


def test_so_many_characters_of_patterns_are_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = counting(monkeypatch, schema_checks.python_patterns, "parse")
    patterns = {str(n): {"type": "string", "pattern": "a" * 3000 + f"{n}("} for n in range(12)}
    with pytest.raises(EngineRequestError, match="no regular expression"):
        check_format(of({"properties": patterns}))
    parsed.clear()
    sound = {name: {**one, "pattern": one["pattern"][:-1]} for name, one in patterns.items()}
    check_format(of({"properties": sound}))
    assert len(parsed) == 6
    check_format(of({"properties": {"last": patterns["0"], **sound}}))


@pytest.mark.parametrize(
    ("pattern", "name", "endless"),
    [
        ("^a", "ab", True),
        ("^b", "ab", False),
        ("b$", "ab", True),
        ("a$", "ab", False),
        ("^ab$", "ab", True),
        ("^a$", "ab", False),
        ("b", "abc", True),
        ("d", "abc", False),
        ("^(a|b)+$", "ab", False),
    ],
)
def test_a_property_that_is_needed_is_found_by_a_simple_pattern(
    pattern: str, name: str, endless: bool
) -> None:
    schema = {"type": "object", "patternProperties": {pattern: {"$ref": "#"}}, "required": [name]}
    if not endless:
        check_format(of(schema))
        return
    with pytest.raises(EngineRequestError, match="without an end"):
        check_format(of(schema))


def test_names_and_patterns_are_held_against_each_other_while_they_are_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked = counting(monkeypatch, schema_ends, "_in")
    for size, pairs in ((20, 400), (300, 0)):
        looked.clear()
        names = [f"k{n}" for n in range(size)]
        patterns = {f"^n{n}": {} for n in range(size)}
        check_format(of({"type": "object", "required": names, "patternProperties": patterns}))
        assert len(looked) == pairs


def test_the_schemas_of_all_tools_have_a_bound_together() -> None:
    large = {"type": "object", "properties": {"a": {"enum": ["x" * 90] * 1900}}}
    tools = [{"type": "function", "function": {"name": f"t{n}", "parameters": large}}
             for n in range(8)]  # fmt: skip
    few, many = (ToolUse(tuple(tools[:n]), "required").answer_format() for n in (4, 8))
    assert few is not None and many is not None
    check_format(few)
    with pytest.raises(EngineRequestError, match="`tools`: the schemas together: is too large"):
        check_format(many)


class Held:
    """A check that waits until it may go on, wherever it runs."""

    def __init__(self) -> None:
        self.begun, self.free = threading.Event(), threading.Event()
        self.freed = False

    def __call__(self, wanted: AnswerFormat) -> None:
        self.begun.set()
        self.freed = self.free.wait(5)


def test_the_server_answers_while_a_schema_is_looked_at() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    held = Held()
    with serve() as live, ThreadPoolExecutor(1) as pool:
        live.engine._formats._check = held
        reply = pool.submit(live.post, messages=user(), response_format=form)
        assert held.begun.wait(30)
        assert live.http.get("/health").status_code == 200
        assert live.post().status_code == 200
        held.free.set()
        assert reply.result(60).status_code == 200
    assert held.freed


@pytest.mark.anyio
async def test_any_engine_looks_at_a_schema_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held()
    monkeypatch.setattr(grammar_checks, "check_format", held)
    checks = GrammarChecks(_takes, lambda: "any")
    checking = asyncio.create_task(checks.check(of(SCHEMA)))
    assert await asyncio.to_thread(held.begun.wait, 5)
    held.free.set()
    await checking
    assert held.freed


async def _takes(schema: Mapping[str, Any]) -> str | None:
    return None


class Backend:
    """Answers nothing until it may; counts what it is asked at once."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.asked = self.now = self.most = 0

    async def refuses(self, schema: Mapping[str, Any]) -> str | None:
        self.asked += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await self.free.wait()
        self.now -= 1
        return None

    async def until(self, asked: int) -> None:
        while self.asked < asked:
            await asyncio.sleep(0.001)


def numbered(number: int) -> AnswerFormat:
    return of({"type": "integer", "minimum": number})


@pytest.mark.anyio
async def test_a_backend_is_asked_about_few_schemas_at_once_and_once_about_each() -> None:
    backend = Backend()
    checks = GrammarChecks(backend.refuses, lambda: "any")
    running = [asyncio.create_task(checks.check(numbered(n % 20))) for n in range(60)]
    await backend.until(8)
    backend.free.set()
    await asyncio.gather(*running)
    assert (backend.asked, backend.most) == (20, 8)
    await asyncio.gather(*(checks.check(numbered(n)) for n in range(20)))
    assert backend.asked == 20, "they are known"


@pytest.mark.anyio
async def test_who_leaves_takes_no_answer_from_others() -> None:
    backend = Backend()
    checks = GrammarChecks(backend.refuses, lambda: "any")
    first, second = (asyncio.create_task(checks.check(numbered(1))) for _ in range(2))
    await backend.until(1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert first.cancelled() and not second.done()
    backend.free.set()
    await second
    assert backend.asked == 1


@pytest.mark.anyio
async def test_who_gets_no_turn_is_told_that_the_engine_is_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = Backend()
    checks = GrammarChecks(backend.refuses, lambda: "any")
    running = [asyncio.create_task(checks.check(numbered(n))) for n in range(8)]
    await backend.until(8)
    monkeypatch.setattr(grammar_checks, "_TURN_SECONDS", 0.01)
    with pytest.raises(EngineBusyError):
        await checks.check(numbered(9))
    backend.free.set()
    await asyncio.gather(*running)
    await checks.check(numbered(9))
    assert backend.asked == 9
