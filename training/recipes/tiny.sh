#!/usr/bin/env bash
# From nothing to a checkpoint that is served, on two CPU cores in eighteen minutes: a model of
# half a million weights, from scratch, with a tokenizer of its own, on our generator's problems.
#
#   training/recipes/tiny.sh                 every stage; ends with the checkpoint's report
#   OUT=folder training/recipes/tiny.sh      folder of the run (default runs/tiny)
#   STOP=reference training/recipes/tiny.sh  up to and with that step
#   START=published training/recipes/tiny.sh from that step on, with the earlier steps in OUT
#
# Every stage resumes and finished ones are skipped: run it again after an interruption. The checkpoint is then
# served with:  extracot-serve --model runs/tiny/published
set -euo pipefail
cd "$(dirname "$0")/../.."

out=${OUT:-runs/tiny}
source training/recipes/steps.sh

step problems problems problems-brief
step teach teach teach-own --input "$out/problems"
step base base base-tiny --set "inputs=[$out/teach]" --set vocabulary.numbers=20

# Stage 1: a compressor of the encoder's first two layers, then every trace at every level.
step annotate annotate annotate-rules --input "$out/teach" --set limit=400
step compressor compressor compressor-brief --input "$out/annotate"
step compress compress compress-brief --input "$out/teach" \
  --set "compressor=$out/compressor" --set "tokenizer=$out/base"

# Stage 2: whole traces first, which teach arithmetic; then every level; then the choice by the
# measured r*.
mixed=(--set "compressed=$out/compress" --set "traces=$out/teach" --set "problems=$out/problems")
step mix-full mix mix-full --set "traces=$out/teach" --set "problems=$out/problems" \
  --set "model=$out/base"
step sft-full sft sft-tiny --input "$out/mix-full" --set "model=$out/base" \
  --set learning_rate=3.0e-3 --set epochs=1.2
step mix-fixed mix mix-brief "${mixed[@]}" --set "model=$out/base"
step sft-fixed sft sft-tiny --input "$out/mix-fixed" --set "model=$out/sft-full"
step reference-fixed reference reference-tiny --input "$out/problems" \
  --set "model=$out/sft-fixed"
step mix-policy mix mix-policy-brief "${mixed[@]}" --set "reference=$out/reference-fixed" \
  --set "model=$out/sft-fixed"
step sft sft sft-tiny --input "$out/mix-policy" --set "model=$out/sft-fixed" \
  --set learning_rate=5.0e-4 --set epochs=1
step reference reference reference-tiny --input "$out/problems" --set "model=$out/sft"

# Stage 3, with replay of rows of every level, so that levels the policy does not choose stay good.
step chrpo chrpo chrpo-tiny --input "$out/reference" --set "model=$out/sft" \
  --set "replay.rows=$out/mix-fixed"

# A draft is published, served by vLLM and measured; then the figures go on its card.
step published publish publish-draft --set "model=$out/chrpo" --set name=tiny \
  --set license=apache-2.0
serving "$out/published" evaluate
step evaluate evaluate evaluate-tiny --input "$out/problems" --set model=published \
  --set "reference=$out/reference" --set "base_url=http://127.0.0.1:$port/v1"
served
step published publish publish --set "model=$out/chrpo" --set "evaluation=$out/evaluate" \
  --set name=tiny
