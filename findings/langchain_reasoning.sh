#!/usr/bin/env bash
# langchain-openai 1.7.4 (langchain-core 1.8.3, openai 3.57.0), Python 3.11: the reasoning of a chat
# completion.
#
# vLLM sends a model's reasoning as `reasoning` beside `content`, others as `reasoning_content`.
# LangChain has blocks of the type "reasoning" in its messages, and makes them of the Responses
# API's items. One would guess that `ChatOpenAI` fills them from a chat completion too, or keeps the
# fields in `additional_kwargs`, as it does for fields it knows. It drops both, whole and in a
# stream; while a model thinks, the stream is empty chunks. A block of reasoning in an earlier
# message is not sent either. With `use_responses_api=True` the same server's reasoning arrives.
#
# Seen (how it was asked: content blocks, other keywords):
#   whole: [('text', 'ok')] {'refusal': None}
#   stream: [('text', 'ok')] {}
#   whole, output_version v1: [('text', 'ok')] {'refusal': None}
#   sent back: {'content': [{'type': 'text', 'text': 'ok'}], 'role': 'assistant'}
#   responses: [('reasoning', 'because'), ('text', 'ok')] {}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  langchain-openai==1.7.4 langchain-core==1.8.3 openai==3.57.0 pydantic==2.14.4
cat > "$folder/try.py" <<'PY'
import functools
import json
import operator
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from langchain_core.messages import AIMessage, HumanMessage
from langchain_openai import ChatOpenAI

got = []
PARTS = {"reasoning": "because", "reasoning_content": "because"}, {"content": "ok"}


def chat(kind, parts, end):
    choice = {"index": 0, "finish_reason": end, kind: {"role": "assistant", **parts}}
    form = "chat.completion" if kind == "message" else "chat.completion.chunk"
    return {"id": "r", "model": "x", "created": 1, "object": form, "choices": [choice]}


def response():
    text = {"type": "output_text", "text": "ok", "annotations": []}
    thought = {"type": "summary_text", "text": "because"}
    message = {"type": "message", "id": "m_1", "role": "assistant", "status": "completed"}
    output = [
        {"type": "reasoning", "id": "rs_1", "summary": [thought]},
        message | {"content": [text]},
    ]
    return {
        "id": "r", "model": "x", "created_at": 1, "object": "response", "status": "completed",
        "tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "output": output,
    }


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        got.append(asked)
        if asked.get("stream"):
            chunks = [chat("delta", part, None) for part in PARTS] + [chat("delta", {}, "stop")]
            lines = [json.dumps(chunk) for chunk in chunks] + ["[DONE]"]
            kind, body = "text/event-stream", "".join(f"data: {line}\n\n" for line in lines)
        else:
            whole = chat("message", PARTS[0] | PARTS[1], "stop")
            answer = response() if self.path == "/responses" else whole
            kind, body = "application/json", json.dumps(answer)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


def show(how, message):
    blocks = [(block["type"], block.get(block["type"])) for block in message.content_blocks]
    print(f"{how}:", blocks, message.additional_kwargs)


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
model = functools.partial(
    ChatOpenAI, model="x", api_key="-", base_url=f"http://127.0.0.1:{server.server_port}"
)
show("whole", model().invoke("u"))
show("stream", functools.reduce(operator.add, model().stream("u")))
show("whole, output_version v1", model(output_version="v1").invoke("u"))
thought = [{"type": "reasoning", "reasoning": "because"}, {"type": "text", "text": "ok"}]
model().invoke([HumanMessage("u"), AIMessage(thought), HumanMessage("v")])
print("sent back:", got[-1]["messages"][1])
show("responses", model(use_responses_api=True).invoke("u"))
PY
"$folder/venv/bin/python" "$folder/try.py" 2> "$folder/errors" > "$folder/seen" ||
  { cat "$folder/errors" >&2; exit 1; }
cat "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
