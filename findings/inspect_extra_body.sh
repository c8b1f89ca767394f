#!/usr/bin/env bash
# inspect-ai 0.3.285 (openai 3.57.0), Python 3.11: `GenerateConfig(extra_body=…)` by API.
#
# It is documented as an extra body for servers that are compatible with OpenAI. One would guess
# that its fields are sent, or refused, with each of OpenAI's APIs. Chat completions get all but
# those of a list of the Responses API's fields (`metadata` is one, though chat has it too), and
# Responses get that list's only. So a server's own field works until `responses_api=True`, and then
# an evaluation runs without it and nothing is said; with `openai-api/…`, which is for other
# servers, too. And `openai/…` asks first whether summaries of reasoning work, with a request of its
# own ("Please say 'hello, world'").
#
# Seen (model, responses_api, then for each request its input's first text, its own fields):
#   openai/x False: "u" {"budget": 0.4}
#   openai/x True: "Please say 'hello, world'" {}; "u" {"metadata": {"a": "b"}}
#   openai-api/own/x False: "u" {"budget": 0.4}
#   openai-api/own/x True: "u" {"metadata": {"a": "b"}}
#   warnings: none
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  inspect-ai==0.3.285 openai==3.57.0 pydantic==2.14.4
cat > "$folder/try.py" <<'PY'
import asyncio
import json
import logging
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from inspect_ai.model import ChatMessageUser, GenerateConfig, get_model

got, said = [], []


class Server(BaseHTTPRequestHandler):
    """Keeps what it is sent, and answers "ok" in the words of the API called."""

    def do_POST(self):
        got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        text = {"type": "output_text", "text": "ok", "annotations": []}
        message = {"role": "assistant", "id": "m", "type": "message", "status": "completed"}
        choice = {"index": 0, "finish_reason": "stop", "message": message | {"content": "ok"}}
        answer = {
            "id": "r", "model": "x", "created": 1, "object": "chat.completion", "choices": [choice]
        }
        if self.path == "/responses":
            answer = {
                "id": "r", "model": "x", "created_at": 1, "object": "response", "tools": [],
                "status": "completed", "parallel_tool_calls": True, "tool_choice": "auto",
                "output": [message | {"content": [text]}],
            }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Keep(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())


def show(body):
    first = body.get("messages") or body["input"]
    text = first if isinstance(first, str) else first[0]["content"]
    text = text if isinstance(text, str) else text[0]["text"]
    own = {key: value for key, value in body.items() if key in ("budget", "metadata")}
    return f"{json.dumps(text)} {json.dumps(own)}"


async def main():
    config = GenerateConfig(extra_body={"budget": 0.4, "metadata": {"a": "b"}})
    base = f"http://127.0.0.1:{server.server_port}"
    for name in ("openai/x", "openai-api/own/x"):
        for responses in (False, True):
            model = get_model(
                name, base_url=base, api_key="-", memoize=False, responses_api=responses
            )
            await model.generate([ChatMessageUser(content="u")], config=config)
            print(f"{name} {responses}:", "; ".join(show(body) for body in got))
            got.clear()
    print("warnings:", said or "none")


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
logging.getLogger().addHandler(Keep(logging.WARNING))
warnings.showwarning = lambda message, *_: said.append(str(message))
asyncio.run(main())
PY
"$folder/venv/bin/python" "$folder/try.py" 2> "$folder/errors" > "$folder/seen" ||
  { cat "$folder/errors" >&2; exit 1; }
cat "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
