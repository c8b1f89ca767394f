#!/usr/bin/env bash
# SmolLM2-135M on the three-story problems of small.sh, as far as two CPU cores get: whole traces and
# every level in one fine-tuning of about an hour, on two hundred times fewer rows than `small`'s.
# No policy and no CHRPO: they want a GPU (smollm2-135m.sh), and so does more than this.
#
#   training/recipes/smollm2_cpu.sh          train, and measure through the server (45 minutes)
#   OUT=folder training/recipes/smollm2_cpu.sh   where it lies, beside what small.sh made there (default
#                                            runs/small; what is missing of that is made first)
#   LIMIT=500 training/recipes/smollm2_cpu.sh    ask more problems than 100
#
# Every stage resumes and what is done is skipped; STOP=NAME ends after a step.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=${OUT:-runs/small}
# Compressor, problems (those to ask too) and whole traces are small.sh's own.
START= OUT=$out STOP=problems-test training/recipes/small.sh
source training/recipes/steps.sh

step compress-smollm2 compress compress-small --input "$out/teach" \
  --set "compressor=$out/compressor" --set tokenizer=bundled:smollm2 --set limit=1500
# More of the short rows: they cost least, and are all equations.
step mix-smollm2 mix mix-small --set "traces=$out/teach" --set "problems=$out/problems" \
  --set "compressed=$out/compress-smollm2" --set model=bundled:smollm2 \
  --set "level_shares=[0.6,0.2,0.12,0.12,0.2]" --set further_native=100
step sft-smollm2 sft sft-smollm2-cpu --input "$out/mix-smollm2"

step draft-smollm2 publish publish-draft --set "model=$out/sft-smollm2" --set name=smollm2
asked=(--input "$out/problems-test" --set model=draft-smollm2 --set "dataset=held-out numbers"
  --set "limit=${LIMIT:-100}"
  --set "base_url=http://127.0.0.1:$port/v1")
serving "$out/draft-smollm2" eval-smollm2
step eval-smollm2 evaluate evaluate-small "${asked[@]}" \
  --set sampling.max_tokens=768 --set "budgets=[0.2,0.4,0.6,0.8,1.0,native]"
served
# Without its levels, with a hard cap at a fifth of its own whole traces. It continues reasoning in its
# answer then, so that is bounded too.
serving "$out/draft-smollm2" eval-smollm2-caps --card none \
  --assumed-reasoning-tokens "${FULL_TOKENS:-263}"
step eval-smollm2-caps evaluate evaluate-small "${asked[@]}" --set asking=ratios \
  --set sampling.max_tokens=200 --set "budgets=[0.2]"
served
