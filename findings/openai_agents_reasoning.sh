#!/usr/bin/env bash
# openai-agents 0.24.0 (openai 3.57.0), Python 3.11: the reasoning of a chat completion.
#
# Servers name that field `reasoning` (vLLM) or `reasoning_content` (DeepSeek), and some send both,
# with the same text, so that every client finds one. One would guess that the two are names of one
# thing here. `reasoning` becomes the content of a reasoning item, with events of "reasoning_text",
# and `reasoning_content` its summary, with events of "reasoning_summary_text": code that shows one
# of them shows nothing with the other kind of server. With both fields, a whole answer keeps the
# summary alone, and a stream gives every thought twice, in its events and in the item.
#
# Seen (fields sent: events about reasoning; summary and content of the items):
#   reasoning, whole: [([], ['because'])]
#   reasoning, streamed: response.reasoning_text.delta because; [([], ['because'])]
#   reasoning_content, whole: [(['because'], [])]
#   reasoning_content, streamed: response.reasoning_summary_text.delta because; [(['because'], [])]
#   reasoning and reasoning_content, whole: [(['because'], [])]
#   reasoning and reasoning_content, streamed: response.reasoning_summary_text.delta because; response.reasoning_text.delta because; [(['because'], ['because'])]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  openai-agents==0.24.0 openai==3.57.0 pydantic==2.14.4
cat > "$folder/try.py" <<'PY'
import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI

fields = ()


def chat(kind, parts, end):
    choice = {"index": 0, "finish_reason": end, kind: {"role": "assistant", **parts}}
    form = "chat.completion" if kind == "message" else "chat.completion.chunk"
    return {"id": "r", "model": "x", "created": 1, "object": form, "choices": [choice]}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        thought, said = dict.fromkeys(fields, "because"), {"content": "ok"}
        if asked.get("stream"):
            parts = ((thought, None), (said, None), ({}, "stop"))
            lines = [json.dumps(chat("delta", *part)) for part in parts] + ["[DONE]"]
            kind, body = "text/event-stream", "".join(f"data: {line}\n\n" for line in lines)
        else:
            kind, body = "application/json", json.dumps(chat("message", thought | said, "stop"))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


def show(how, events, result):
    items = [item for answer in result.raw_responses for item in answer.output]
    thoughts = [item for item in items if item.type == "reasoning"]
    held = [
        ([part.text for part in item.summary], [part.text for part in item.content or ()])
        for item in thoughts
    ]
    print(f"{' and '.join(fields)}, {how}:", "; ".join(events + [str(held)]))


async def main():
    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{server.server_port}", api_key="-")
    agent = Agent(name="a", model=OpenAIChatCompletionsModel("x", client))
    show("whole", [], await Runner.run(agent, "u"))
    result = Runner.run_streamed(agent, "u")
    events = [
        f"{event.data.type} {event.data.delta}"
        async for event in result.stream_events()
        if event.type == "raw_response_event" and event.data.type.endswith("delta")
    ]
    show("streamed", events[:-1], result)  # the last is that of the text


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
set_tracing_disabled(True)
for fields in (("reasoning",), ("reasoning_content",), ("reasoning", "reasoning_content")):
    asyncio.run(main())
PY
"$folder/venv/bin/python" "$folder/try.py" 2> "$folder/errors" > "$folder/seen" ||
  { cat "$folder/errors" >&2; exit 1; }
cat "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
