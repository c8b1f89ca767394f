#!/usr/bin/env bash
# Qwen3-1.7B in the paper's setting (arXiv 2602.08324): its own verified traces of GSM8K's and MATH's
# training questions, a compressor trained here, five ratios, 3 epochs at lr 2e-5, then CHRPO;
# measured on GSM8K test, MATH-500 and AMC 2023, with the paper's table in each report.
#
#   PLAN=yes training/recipes/qwen3-1.7b.sh        rows, memory and hours of each stage; runs nothing
#   REHEARSE=yes training/recipes/qwen3-1.7b.sh    every command, on a CPU, with a model of two layers
#   training/recipes/qwen3-1.7b.sh                 one GPU of 80 GB
#   GPUS=8 training/recipes/qwen3-1.7b.sh          eight; the batches are the same
#
# DATA (default data) has gsm8k/{train,test}.jsonl, math/train.jsonl, math500/test.jsonl and
# amc2023.jsonl. MODEL is another start, LORA=yes trains CHRPO by adapters, ACCELERATE=FILE shards the
# weights of fine-tuning. Not run by us on a GPU; the rehearsal is a test. Hyper-parameters and where
# they come from stand in the configurations.
set -euo pipefail
cd "$(dirname "$0")/../.."

# What could not start at the end is said at the beginning.
if [[ ! ${PLAN:-}${DRY:-} ]]; then PLAN=check bash training/recipes/qwen3-1.7b.sh; fi

declare -A more # further settings of steps, by their names
serve_flags=()
if [[ ${REHEARSE:-} ]]; then
  out=${OUT:-runs/qwen3-rehearsal}
  source training/recipes/rehearsal.sh
else
  out=${OUT:-runs/qwen3-1.7b}
fi
source training/recipes/steps.sh
model=${MODEL:-Qwen/Qwen3-1.7B}
data=${DATA:-data}
device=${DEVICE:-cuda}
chrpo=chrpo-qwen3-1.7b${LORA:+-lora}
many=(--set "processes=${GPUS:-1}")
sharded=("${many[@]}" --set "accelerate=${ACCELERATE:-null}")

step problems problems problems-qwen3 --set "sources.0.path=$data/gsm8k/train.jsonl" \
  --set "sources.1.path=$data/math/train.jsonl" \
  --set "contamination.against.0.path=$data/gsm8k/test.jsonl" \
  --set "contamination.against.1.path=$data/math500/test.jsonl" \
  --set "contamination.against.2.path=$data/amc2023.jsonl"

# Stage 1: a compressor of reasoning that takes things back; then the model's own traces, at every
# ratio, counted in its own tokens.
step reasoning problems problems-reasoning --set sources.0.size=1000
step reasoning-teach teach teach-own --input "$out/reasoning"
step annotate annotate annotate-gold --input "$out/reasoning-teach"
step compressor compressor compressor-steps --input "$out/annotate"
step teach teach teach-vllm --input "$out/problems" --set "backend.model=$model" \
  --set "tokenizer=$model"
step compress compress compress --input "$out/teach" --set "compressor=$out/compressor" \
  --set "tokenizer=$model" --set "device=$device"

# Stage 2: every level, then the choice by the measured r*.
mixed=(--set "compressed=$out/compress" --set "traces=$out/teach" --set "problems=$out/problems")
step mix-fixed mix mix-proportions "${mixed[@]}" --set "model=$model" --set policy.share=0.0
step sft-fixed sft sft-qwen3-1.7b --input "$out/mix-fixed" --set "model=$model" "${sharded[@]}"
step reference-fixed reference reference-vllm --input "$out/problems" \
  --set "model=$out/sft-fixed" --set limit=2000
step mix-policy mix mix-proportions "${mixed[@]}" --set "reference=$out/reference-fixed" \
  --set "model=$out/sft-fixed"
step sft sft sft-qwen3-1.7b --input "$out/mix-policy" --set "model=$out/sft-fixed" \
  --set epochs=1 "${sharded[@]}"
step reference reference reference-vllm --input "$out/problems" --set "model=$out/sft"

# Stage 3.
step chrpo chrpo "$chrpo" --input "$out/reference" --set "model=$out/sft" "${many[@]}"
if [[ ${REHEARSE:-} ]]; then
  step chrpo-alone chrpo "$chrpo" --input "$out/reference" --set "model=$out/sft"
fi

step published publish publish-draft --set "model=$out/chrpo" --set name=qwen3-1.7b \
  --set license=apache-2.0
step test-gsm8k problems problems-test --set "sources.0.path=$data/gsm8k/test.jsonl"
step test-math500 problems problems-test --set sources.0.kind=math \
  --set "sources.0.path=$data/math500/test.jsonl"
step test-amc problems problems-test --set sources.0.kind=amc \
  --set "sources.0.path=$data/amc2023.jsonl"
serving "$out/published" "evaluate evaluate-gsm8k evaluate-math500 evaluate-amc" \
  "${serve_flags[@]}"
asked=(--set model=published --set "base_url=http://127.0.0.1:$port/v1" --set concurrency=64)
step evaluate evaluate evaluate --input "$out/problems" --set "splits=[dev]" "${asked[@]}" \
  --set "reference=$out/reference"
step evaluate-gsm8k evaluate evaluate --input "$out/test-gsm8k" "${asked[@]}" \
  --set published=gsm8k
step evaluate-math500 evaluate evaluate --input "$out/test-math500" "${asked[@]}" \
  --set published=math500
step evaluate-amc evaluate evaluate --input "$out/test-amc" "${asked[@]}" \
  --set published=amc2023 --set samples=8
served
card=(--set "model=$out/chrpo" --set "evaluation=$out/evaluate" --set name=qwen3-1.7b
  --set license=apache-2.0)
if [[ ${REHEARSE:-} ]]; then
  refused "of the level below it" step published publish publish "${card[@]}"
  exit
fi
step published publish publish "${card[@]}"
