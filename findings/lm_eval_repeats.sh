#!/usr/bin/env bash
# lm-eval 0.4.13 (lm-evaluation-harness), Python 3.11: a task's `repeats` with
# `local-chat-completions`.
#
# `repeats` asks a question several times, for maj@k or a mean over samples; the harness knows what
# they are for: with `do_sample: true` it leaves its cache aside, since every sample would be the
# same. One would guess that the requests ask a server for different samples. Each has the same
# `seed`, 1234 or that of the model's arguments, and a server that obeys it for a request, as vLLM
# does, gives one reply k times: maj@64 is the accuracy of one sample at 64 times the price. The
# command's `--seed` does not change it (it is for random, numpy, torch and the few shots). And
# `do_sample: true` without a temperature is sent as temperature 0. `"seed": null` in a task's
# `generation_kwargs` or in `--gen_kwargs` takes the seed away.
#
# Requests are handed over as the evaluator does: the same one as often as the task repeats it.
#
# Seen (arguments of the model, generation's own: temperatures and seeds sent, how many of eight
# replies differ):
#   {} {'temperature': 0.6}: [0.6] [1234], 1 of 8
#   {'num_concurrent': 4} {'temperature': 0.6}: [0.6] [1234], 1 of 8
#   {'seed': 7} {'temperature': 0.6}: [0.6] [7], 1 of 8
#   {} {}: [0] [1234], 1 of 8
#   {} {'temperature': 0.6, 'seed': None}: [0.6] [None], 8 of 8
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" aiohttp==3.14.5 Jinja2==3.1.6 numpy==2.4.6 PyYAML==6.0.4 requests==2.34.2 \
  tenacity==9.2.1 tqdm==4.70.1 typing_extensions==4.16.0
# Without the libraries of its tasks and metrics, of which nothing is run here.
"${pip[@]}" --no-deps lm-eval==0.4.13
cat > "$folder/try.py" <<'PY'
import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import lm_eval.models  # registers the kinds of models
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

REPEATS = 8
got = []


class Server(BaseHTTPRequestHandler):
    """Samples a number: by the request's seed if it has one, else another for each request."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        got.append(asked)
        seed = asked["seed"]
        draw = random.Random(-len(got) if seed is None else seed)
        message = {"role": "assistant", "content": str(draw.randrange(10**12))}
        body = json.dumps({
            "id": "r", "model": "x", "created": 1, "object": "chat.completion",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        }).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def values(name):
    return sorted({request[name] for request in got}, key=str)


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
cases = [
    ({}, {"temperature": 0.6}),
    ({"num_concurrent": 4}, {"temperature": 0.6}),
    ({"seed": 7}, {"temperature": 0.6}),
    ({}, {}),
    ({}, {"temperature": 0.6, "seed": None}),
]
for arguments, own in cases:
    model = get_model("local-chat-completions")(model="x", base_url=address, **arguments)
    prompt = model.apply_chat_template([{"role": "user", "content": "u"}])
    generation = {"until": ["Q:"], "do_sample": True, **own}
    request = Instance("generate_until", {}, (prompt, generation), 0, repeats=REPEATS)
    replies = model.generate_until([request] * REPEATS, disable_tqdm=True)
    seen = f"{len(set(replies))} of {len(replies)}"
    print(arguments, f"{own}:", values("temperature"), f"{values('seed')}, {seen}")
    got.clear()
PY
"$folder/venv/bin/python" "$folder/try.py" 2> "$folder/errors" > "$folder/seen" ||
  { cat "$folder/errors" >&2; exit 1; }
cat "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
