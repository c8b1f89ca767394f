"""``/``: a page that says what is served, where else to look, and a line to try.

It needs nothing from other hosts; its addresses are relative, so that it works behind a proxy that
serves it under another path. It shows no more than ``/ready`` and ``/docs`` do without a key.
"""

from __future__ import annotations

import json
import shlex
from html import escape

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

import extracot
from extracot.card import BudgetCard
from extracot_server.generation.request import ServedModel
from extracot_server.model_registry.registry import AppState

_ANY_QUESTION = "What is 12 * 3 + 4?"
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "cache-control": "no-store",
}
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Extra-CoT Server</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto;
  padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; }}
h2 {{ font-size: 1.1rem; margin-top: 1.8rem; }}
pre {{ overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; padding: 0.8rem;
  border: 1px solid #8886; border-radius: 6px; }}
li {{ margin: 0.3rem 0; }}
</style>
</head>
<body>
<h1>Extra-CoT Server {version}</h1>
<p>An OpenAI-compatible server where each request says how much reasoning it may cost.</p>
<h2>Served</h2>
<ul>
{models}
</ul>
<h2>Try</h2>
<pre>{example}</pre>
<h2>Look</h2>
<ul>
{links}
</ul>
</body>
</html>
"""


def install_start_page(app: FastAPI, state: AppState) -> None:
    """Serve the page at ``/``."""

    async def page(request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        return HTMLResponse(render(state, base), headers=_HEADERS)

    app.add_route("/", page, methods=["GET"], include_in_schema=False)


def render(state: AppState, url: str) -> str:
    """The page, for a server that is reached at ``url``."""
    models = [_told(service.model) for service in state.services.values()]
    links = [
        ("docs", "the API, endpoint by endpoint"),
        ("v1/budget", "levels and figures of the model" + _with_key(state)),
        ("ready", "which models are up"),
        ("metrics", "Prometheus metrics"),
    ]
    if state.settings.playground:
        links.insert(0, ("playground/", "compare budgets in the browser"))
    return _PAGE.format(
        version=escape(extracot.__version__),
        models="\n".join(f"<li>{text}</li>" for text in models) or "<li>nothing yet</li>",
        example=escape(example_line(state, url)),
        links="\n".join(f'<li><a href="{to}">/{to}</a>: {text}</li>' for to, text in links),
    )


def example_line(state: AppState, url: str) -> str:
    """A curl command that the first model can answer."""
    name, service = next(iter(state.services.items()))
    body = {
        "model": name,
        "messages": [{"role": "user", "content": first_question(service.model.card)}],
        "budget": 0.2,
    }
    headers = "-H 'content-type: application/json'"
    if state.keys.required:
        headers += ' -H "authorization: Bearer $EXTRACOT_API_KEY"'
    data = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f"curl -s {shlex.quote(f'{url}/v1/chat/completions')} {headers} -d {data}"


def first_question(card: BudgetCard | None) -> str:
    """What to ask a model first: an example of its card, which matters where it knows little."""
    return card.examples[0] if card is not None and card.examples else _ANY_QUESTION


def levels_line(model: ServedModel) -> str:
    """What a budget means for this model, in a few words."""
    if model.card is None:
        return f"cap mode: a ratio is a cap on {model.policy.assumed_baseline} tokens"
    return f"{model.mode} mode, levels {', '.join(level.name for level in model.card.levels)}"


def _told(model: ServedModel) -> str:
    domain = model.card.domain if model.card is not None else None
    knows = f"<br>It knows {escape(domain)}." if domain else ""
    return f"<b>{escape(model.name)}</b> ({escape(levels_line(model))}){knows}"


def _with_key(state: AppState) -> str:
    return " (with a key)" if state.keys.required else ""
