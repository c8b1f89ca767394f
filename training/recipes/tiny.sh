#!/usr/bin/env bash
# From nothing to a checkpoint that answers, on two CPU cores in under twenty minutes: a model of
# under a million weights, from scratch, with a tokenizer of its own, on our generator's problems.
#
#   training/recipes/tiny.sh                 every stage; ends with the checkpoint's report
#   OUT=folder training/recipes/tiny.sh      where it lies (default runs/tiny)
#   STOP=reference training/recipes/tiny.sh  up to and with that step
#
# Every stage resumes and what is done is skipped: run it again after a cut. The checkpoint is then
# served with:  extracot-serve --model runs/tiny/published
set -euo pipefail
cd "$(dirname "$0")/../.."

train=${EXTRACOT_TRAIN:-extracot-train}
serve=${EXTRACOT_SERVE:-extracot-serve}
out=${OUT:-runs/tiny}
port=${PORT:-8123}
configs=training/configs
mkdir -p "$out"

# step NAME STAGE CONFIG [--set …]: one stage into $out/NAME, its time said.
step() {
  local name=$1 stage=$2 config=$3 began=$SECONDS
  shift 3
  "$train" "$stage" --config "$configs/$config.yaml" --out "$out/$name" "$@"
  echo "[$((SECONDS - began)) s, $SECONDS s in all]"
  if [[ ${STOP:-} == "$name" ]]; then exit 0; fi
}

step problems problems problems-brief
step teach teach teach-own --input "$out/problems"
step base base base-tiny --set "inputs=[$out/teach]" --set vocabulary.numbers=20

# Stage 1: a compressor of the encoder's first two layers, then every trace at every level.
step annotate annotate annotate-rules --input "$out/teach" --set limit=400
step compressor compressor compressor-brief --input "$out/annotate"
step compress compress compress-brief --input "$out/teach" \
  --set "compressor=$out/compressor" --set "tokenizer=$out/base"

# Stage 2: whole traces first (they teach the arithmetic), then every level, then the choice.
step mix-full mix mix-full --set "traces=$out/teach" --set "problems=$out/problems" \
  --set "model=$out/base"
step sft-full sft sft-tiny-full --input "$out/mix-full" --set "model=$out/base"
mixed=(--set "compressed=$out/compress" --set "traces=$out/teach" --set "problems=$out/problems")
step mix-fixed mix mix-fixed "${mixed[@]}" --set "model=$out/sft-full"
step sft-fixed sft sft-tiny --input "$out/mix-fixed" --set "model=$out/sft-full"
step reference-fixed reference reference-tiny --input "$out/problems" \
  --set "model=$out/sft-fixed"
step mix-policy mix mix-policy "${mixed[@]}" --set "reference=$out/reference-fixed" \
  --set "model=$out/sft-fixed" --set limit=400 --set policy.share=0.5
step sft sft sft-tiny --input "$out/mix-policy" --set "model=$out/sft-fixed" \
  --set learning_rate=5.0e-4
step reference reference reference-tiny --input "$out/problems" --set "model=$out/sft"

# Stage 3.
step chrpo chrpo chrpo-tiny --input "$out/reference" --set "model=$out/sft"

# A draft to measure, served by vLLM; then the checkpoint with what was measured on its card.
step draft publish publish-draft --set "model=$out/chrpo" --set name=tiny
"$serve" --model "$out/draft" --port "$port" --host 127.0.0.1 >"$out/serve.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT  # also when a stage fails
until python3 -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1])' \
  "http://127.0.0.1:$port/ready" 2>/dev/null; do
  if ! kill -0 "$server" 2>/dev/null; then tail -n 20 "$out/serve.log" >&2; exit 1; fi
  sleep 1
done
step evaluate evaluate evaluate-tiny --input "$out/problems" --set model=draft \
  --set "reference=$out/reference" --set "base_url=http://127.0.0.1:$port/v1"
kill "$server"
wait "$server" || true
trap - EXIT
step published publish publish --set "model=$out/chrpo" --set "evaluation=$out/evaluate" \
  --set name=tiny
