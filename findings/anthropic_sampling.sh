#!/usr/bin/env bash
# anthropic 2.12.0 (Python 3.11): sampling settings of a message.
#
# The Messages API has `temperature`, `top_p` and `top_k`, and the SDK's own types list them for years;
# one would guess that they are keywords of `messages.create`, as they are in 0.x. In this version they
# are keywords of neither `create` nor `stream`, so a call with one ends in a TypeError before any
# request; what is sent in `extra_body` still arrives in the body as ever. A server that stands in for
# the API (vLLM's /v1/messages, a gateway) that tests its sampling with this SDK has to use that.
#
# Seen (how it was given; what arrived at the server, or the error):
#   create temperature=0: TypeError
#   stream temperature=0: TypeError
#   create extra_body: temperature 0, top_k 1
#   create stop_sequences: ['.']
set -euo pipefail
script=$(realpath "$0")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check anthropic==2.12.0
cat > "$folder/try.py" <<'PY'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import anthropic

arrived = []


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        arrived.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        body = {
            "id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
            "stop_sequence": None, "content": [{"type": "text", "text": "Hello."}],
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *rest):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = anthropic.Anthropic(api_key="k", base_url=f"http://127.0.0.1:{server.server_port}")
ask = {"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]}
for name in ("create", "stream"):
    try:
        getattr(client.messages, name)(**ask, temperature=0)
        print(f"{name} temperature=0: {arrived[-1].get('temperature')}")
    except TypeError:
        print(f"{name} temperature=0: TypeError")
client.messages.create(**ask, extra_body={"temperature": 0, "top_k": 1})
print(f"create extra_body: temperature {arrived[-1]['temperature']}, top_k {arrived[-1]['top_k']}")
client.messages.create(**ask, stop_sequences=["."])
print(f"create stop_sequences: {arrived[-1]['stop_sequences']}")
PY
cd "$folder"
venv/bin/python try.py > seen 2> errors || { cat errors >&2; exit 1; }
cat seen
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$script") seen
echo "as stated"
