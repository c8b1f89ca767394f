#!/usr/bin/env bash
# LiteLLM 1.108.7, Python 3.11: `base_url` is obeyed by some of its calls only.
#
# `completion` and `text_completion` take `base_url` as another name of `api_base`, as the OpenAI
# client calls it. One would guess the same of `responses` and `embedding`. They take it without an
# error and send the request where they would without it: to the address of the environment or, if
# there is none, to OpenAI. `api_base` is obeyed by all four.
#
# Seen (call, argument, where the request went):
#   completion base_url argument
#   completion api_base argument
#   text_completion base_url argument
#   text_completion api_base argument
#   responses base_url environment
#   responses api_base argument
#   embedding base_url environment
#   embedding api_base argument
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  litellm==1.108.7 openai==3.57.0 httpx==0.28.1 pydantic==2.14.4
cat > "$folder/try.py" <<'PY'
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import litellm

got = []


class Recorder(BaseHTTPRequestHandler):
    """Keeps the first part of the path; its answer, an error, ends the call."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        got.append(self.path.split("/")[1])
        answer = b'{"error": {"type": "invalid_request_error", "message": "-"}}'
        self.send_response(400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
threading.Thread(target=server.serve_forever, daemon=True).start()
here = f"http://127.0.0.1:{server.server_port}"
os.environ["OPENAI_BASE_URL"] = f"{here}/environment"
litellm.suppress_debug_info = True
for call, text in (
    (litellm.completion, {"messages": [{"role": "user", "content": "u"}]}),
    (litellm.text_completion, {"prompt": "u"}),
    (litellm.responses, {"input": "u"}),
    (litellm.embedding, {"input": ["u"]}),
):
    for name in ("base_url", "api_base"):
        try:
            call(model="openai/x", api_key="-", **text, **{name: f"{here}/argument"})
        except litellm.BadRequestError:
            pass
        (place,) = got
        got.clear()
        print(call.__name__, name, place)
PY
LITELLM_LOCAL_MODEL_COST_MAP=True "$folder/venv/bin/python" "$folder/try.py" \
  2> "$folder/errors" > "$folder/seen" || { cat "$folder/errors" >&2; exit 1; }
cat "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
