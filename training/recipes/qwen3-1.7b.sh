#!/usr/bin/env bash
# Qwen3-1.7B in the paper's setting (arXiv 2602.08324): its own verified traces on GSM8K and
# gsm_symbolic problems, five ratios, 3 epochs at lr 2e-5, then CHRPO. Not run by us: no such GPU
# was at hand. Hyper-parameters and where they come from stand in the configurations.
#
#   GSM8K=folder MATH500=file training/recipes/qwen3-1.7b.sh           one GPU
#   GPUS=8 GSM8K=folder MATH500=file training/recipes/qwen3-1.7b.sh    eight (DeepSpeed ZeRO-3)
#
# Estimates, computed and not measured. 1.72e9 weights. SFT: 16 bytes a weight (float32 weights,
# gradients, AdamW) are 28 GB, logits of 2 x 6144 tokens x 151,936 words in float32 7.5 GB, with
# checkpointing about 45 GB on one GPU; 3.4 GB of states each on eight. 70k rows of about 1,000
# tokens, three times: 6 x 1.72e9 x 2.1e8 x 4/3 = 2.9e18 operations, 2.3 hours of an H100 at 35 % of
# its bfloat16 peak, some 20 minutes on eight. Teaching: 12k problems x 4 samples x 1,200 tokens
# = 5.8e7 tokens, 1.6 hours at 10,000 tokens/s. CHRPO: 400 steps x 128 rollouts x 600 tokens, the
# same order again; it runs on one GPU.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=${OUT:-runs/qwen3-1.7b}
source training/recipes/steps.sh
model=${MODEL:-Qwen/Qwen3-1.7B}
gsm8k=${GSM8K:-data/gsm8k}
math500=${MATH500:-data/math500/test.jsonl}
launch=""
if [[ ${GPUS:-1} != 1 && ! ${DRY:-} ]]; then
  launch="accelerate launch --config_file $configs/accelerate/deepspeed_zero3.yaml \
    --num_processes $GPUS -m extracot_training.cli"
fi

step problems problems problems-mix --set "sources.0.path=$gsm8k/train.jsonl" \
  --set "contamination.against.0.path=$gsm8k/test.jsonl" \
  --set "contamination.against.1.path=$math500"
step teach teach teach-vllm --input "$out/problems" --set "backend.model=$model" \
  --set "tokenizer=$model"
step compress compress compress --input "$out/teach" --set "tokenizer=$model" --set device=cuda

mixed=(--set "compressed=$out/compress" --set "traces=$out/teach" --set "problems=$out/problems")
step mix-fixed mix mix-proportions "${mixed[@]}" --set "model=$model" --set policy.share=0.0
LAUNCH=$launch step sft-fixed sft sft-qwen3-1.7b --input "$out/mix-fixed" --set "model=$model"
step reference-fixed reference reference-vllm --input "$out/problems" \
  --set "model=$out/sft-fixed"
step mix-policy mix mix-proportions "${mixed[@]}" --set "reference=$out/reference-fixed" \
  --set "model=$out/sft-fixed"
LAUNCH=$launch step sft sft sft-qwen3-1.7b --input "$out/mix-policy" \
  --set "model=$out/sft-fixed" --set epochs=1
step reference reference reference-vllm --input "$out/problems" --set "model=$out/sft"
step chrpo chrpo chrpo-qwen3-1.7b --input "$out/reference" --set "model=$out/sft"

step published publish publish-draft --set "model=$out/chrpo" --set name=qwen3-1.7b \
  --set license=apache-2.0
serving "$out/published" evaluate
step evaluate evaluate evaluate --input "$out/problems" --set model=published --set "splits=[dev]" \
  --set "base_url=http://127.0.0.1:$port/v1" --set concurrency=64 \
  --set "reference=$out/reference"
served
step published publish publish --set "model=$out/chrpo" --set "evaluation=$out/evaluate" \
  --set name=qwen3-1.7b
