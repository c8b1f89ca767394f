#!/usr/bin/env bash
# SmolLM2-135M (from PyPI, no hub needed) as an Extra-CoT model of elementary word problems, on two
# CPU cores or one GPU: short solutions first, for reading and arithmetic; then levels.
#
#   GSM8K=folder training/recipes/smollm2.sh      GSM8K holds train.jsonl and test.jsonl; only the
#                                                 first is learned from (default data/gsm8k)
#   STOP=sft-levels GSM8K=... training/recipes/smollm2.sh   up to and with that step
#   DEVICE=cuda ...                               on a GPU (not run by us yet)
#   LIMIT=100 ...                                 ask fewer problems at the end than 350
#
# Every stage resumes and what is done is skipped. What we have run of it, and how long it took, is in
# docs/experiments.md; the steps from `reference` to `chrpo` want hours on a CPU or a GPU.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=${OUT:-runs/smollm2}
source training/recipes/steps.sh
gsm8k=${GSM8K:-data/gsm8k}
on=(--set "device=${DEVICE:-cpu}")

# Whole, short solutions of many different problems.
step problems-first problems problems-smollm2-first --set "sources.0.path=$gsm8k/train.jsonl" \
  --set "contamination.against.0.path=$gsm8k/test.jsonl"
step teach-first teach teach-own --input "$out/problems-first"
step mix-first mix mix-full --set "traces=$out/teach-first" \
  --set "problems=$out/problems-first" --set model=bundled:smollm2 --set cutoff=400
step sft-first sft sft-smollm2-first --input "$out/mix-first" "${on[@]}"

# What it is not to forget: the base model's own replies to ordinary requests.
step problems-everyday problems problems-smollm2-everyday
serving smollm2 teach-everyday
step teach-everyday teach teach-smollm2-everyday --input "$out/problems-everyday" \
  --set "backend.base_url=http://127.0.0.1:$port/v1" --set samples=1 --set sampling.max_tokens=140
served

# Levels.
step problems-levels problems problems-smollm2-levels
step teach-levels teach teach-own --input "$out/problems-levels"
step compress-levels compress compress --input "$out/teach-levels" --set bucket=0.08 \
  --set cleaning.min_tokens=4
mixed=(--set "compressed=$out/compress-levels" --set "traces=$out/teach-levels"
  --set "problems=$out/problems-levels" --set "also.0.traces=$out/teach-first"
  --set "also.1.traces=$out/teach-everyday")
step mix-levels mix mix-smollm2-levels "${mixed[@]}"
step sft-levels sft sft-smollm2-levels --input "$out/mix-levels" --set "model=$out/sft-first" \
  "${on[@]}"

# The choice of a level.
step reference reference reference --input "$out/problems-levels" --set "model=$out/sft-levels" \
  --set limit=2000 --set drawing.max_tokens=512
step chrpo chrpo chrpo-smollm2 --input "$out/reference" --set "model=$out/sft-levels"

# Measured on other people's questions; then published as a difference of some 23 MB.
shipped=(--set "model=$out/chrpo" --set name=smollm2-extracot --set license=apache-2.0
  --set difference.form=bits)
step published publish publish-draft "${shipped[@]}"
step problems-asked problems problems-asked
serving "$out/published" evaluate
step evaluate evaluate evaluate --input "$out/problems-asked" --set model=published \
  --set "splits=[test]" --set "limit=${LIMIT:-350}" --set sampling.temperature=0 \
  --set sampling.max_tokens=400 --set "base_url=http://127.0.0.1:$port/v1"
served
step published publish publish "${shipped[@]}" --set "evaluation=$out/evaluate"
