#!/usr/bin/env bash
# LiteLLM 1.108.7, Python 3.11: how a field that LiteLLM does not know reaches the server.
#
# A server's own field (here `budget`) can be given to `completion` as `extra_body={"budget": 0.4}`,
# as for the OpenAI client, or as a keyword. One would guess that both arrive at the top of the
# body, or raise, whichever API is behind the prefix of the model's name. For a chat completion
# they do. For `anthropic/` a keyword arrives, and `extra_body` is itself sent as a field, with the
# budget inside, which Messages does not have. For `openai/responses/` neither is sent and nothing
# is said. `litellm.responses` is the other way round: `extra_body` arrives, a keyword is dropped.
#
# Seen (call, what was given, what of it the server got):
#   completion openai/x {'extra_body': {'budget': 0.4}} {'budget': 0.4}
#   completion openai/x {'budget': 0.4} {'budget': 0.4}
#   completion anthropic/x {'extra_body': {'budget': 0.4}} {'extra_body': {'budget': 0.4}}
#   completion anthropic/x {'budget': 0.4} {'budget': 0.4}
#   completion openai/responses/x {'extra_body': {'budget': 0.4}} {}
#   completion openai/responses/x {'budget': 0.4} {}
#   responses openai/x {'extra_body': {'budget': 0.4}} {'budget': 0.4}
#   responses openai/x {'budget': 0.4} {}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  litellm==1.108.7 openai==3.57.0 httpx==0.28.1 pydantic==2.14.4
cat > "$folder/try.py" <<'PY'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import litellm

got = []


class Recorder(BaseHTTPRequestHandler):
    """Keeps what it is sent; its answer, an error, ends the call."""

    def do_POST(self):
        got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        answer = b'{"type": "error", "error": {"type": "invalid_request_error", "message": "-"}}'
        self.send_response(400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
threading.Thread(target=server.serve_forever, daemon=True).start()
litellm.suppress_debug_info = True
for call, model in (
    (litellm.completion, "openai/x"),
    (litellm.completion, "anthropic/x"),
    (litellm.completion, "openai/responses/x"),
    (litellm.responses, "openai/x"),
):
    messages = [{"role": "user", "content": "u"}]
    text = {"input": messages} if call is litellm.responses else {"messages": messages}
    for given in ({"extra_body": {"budget": 0.4}}, {"budget": 0.4}):
        base = f"http://127.0.0.1:{server.server_port}"
        try:
            call(model=model, api_base=base, api_key="-", **text, **given)
        except litellm.BadRequestError:
            pass
        (body,) = got
        got.clear()
        own = {key: value for key, value in body.items() if key in ("budget", "extra_body")}
        print(call.__name__, model, given, own)
PY
LITELLM_LOCAL_MODEL_COST_MAP=True "$folder/venv/bin/python" "$folder/try.py" \
  2> "$folder/errors" > "$folder/seen" || { cat "$folder/errors" >&2; exit 1; }
cat "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
