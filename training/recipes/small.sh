#!/usr/bin/env bash
# The bundled model `small`, from nothing: half a million weights with a tokenizer of their own, on
# our generator's problems, and its comparisons. Two CPU cores, no GPU.
#
#   training/recipes/small.sh               every stage; ends with the checkpoint and its report
#   training/recipes/small.sh --baselines   and what it is compared with, trained and measured alike
#   GSM8K=folder training/recipes/small.sh --baselines   also asks the test.jsonl there
#   OUT=folder training/recipes/small.sh    folder of the run (default runs/small)
#   STOP=reference training/recipes/small.sh   up to and with that step
#
# Every stage resumes and finished ones are skipped: run it again after an interruption. The result is what
# server/extracot_server/models/small holds; `make evaluate` measures that again.
set -euo pipefail
cd "$(dirname "$0")/../.."

baselines=
for flag in "$@"; do
  case $flag in
    --baselines) baselines=yes ;;
    *) echo "unknown flag $flag" >&2; exit 2 ;;
  esac
done
out=${OUT:-runs/small}
source training/recipes/steps.sh

# Stage 1: the compressor of compressor_cpu.sh.
step compressor-problems problems problems-compressor
step compressor-teach teach teach-own --input "$out/compressor-problems"
step annotate annotate annotate-rules --input "$out/compressor-teach"
step compressor compressor compressor-minilm --input "$out/annotate"

# Single stories teach arithmetic; then three at once, and which numbers belong to which story.
step problems problems problems-small
step teach teach teach-own --input "$out/problems"
step problems-single problems problems-small-single
# The test problems, whose stories occur in none of the above.
step problems-test problems problems-small-test \
  --set "sources.0.unlike=[$out/problems,$out/problems-single]"
step teach-single teach teach-own --input "$out/problems-single"
step base base base-small --set "inputs=[$out/teach,$out/teach-single]"
step mix-single mix mix-full --set "traces=$out/teach-single" \
  --set "problems=$out/problems-single" --set "model=$out/base"
step sft-single sft sft-small --input "$out/mix-single" --set "model=$out/base" \
  --set learning_rate=3.0e-3 --set epochs=1.5
step mix-full mix mix-full --set "traces=$out/teach" --set "problems=$out/problems" \
  --set "model=$out/base"
step sft-full sft sft-small --input "$out/mix-full" --set "model=$out/sft-single" \
  --set learning_rate=2.0e-3 --set epochs=1.3 --set batch=24

# Stage 2: every level; whole traces again, until it no longer mixes stories up; and levels again,
# first with more of the short ones, whose rows are quick to learn from, then of the long ones.
step compress compress compress-small --input "$out/teach" \
  --set "compressor=$out/compressor" --set "tokenizer=$out/base"
mixed=(--set "traces=$out/teach" --set "problems=$out/problems" --set "model=$out/base")
short=(--set "level_shares=[1.0,0.6,0.35,0.35,0.35]" --set further_native=1500)
long=(--set "level_shares=[0.5,0.5,0.5,0.5,1.0]")
step mix-fixed mix mix-small "${mixed[@]}" --set "compressed=$out/compress"
step mix-short mix mix-small "${mixed[@]}" --set "compressed=$out/compress" "${short[@]}"
step mix-long mix mix-small "${mixed[@]}" --set "compressed=$out/compress" "${long[@]}"
step sft-levels sft sft-small --input "$out/mix-fixed" --set "model=$out/sft-full" --set epochs=2.5
step sft-whole sft sft-small --input "$out/mix-full" --set "model=$out/sft-levels" \
  --set learning_rate=2.0e-3 --set epochs=1 --set warmup=0.02
step sft-again sft sft-small --input "$out/mix-fixed" --set "model=$out/sft-whole" \
  --set learning_rate=2.0e-3 --set epochs=1
step sft-short sft sft-small --input "$out/mix-short" --set "model=$out/sft-again"
step sft-fixed sft sft-small --input "$out/mix-long" --set "model=$out/sft-short" \
  --set learning_rate=2.0e-3 --set epochs=1.6 --set warmup=0.02
# Then the choice as it was measured.
step reference-fixed reference reference-small --input "$out/problems" \
  --set "model=$out/sft-fixed"
step mix-policy mix mix-policy-brief "${mixed[@]}" --set "compressed=$out/compress" \
  --set "reference=$out/reference-fixed" --set "model=$out/sft-fixed"
step sft sft sft-small --input "$out/mix-policy" --set "model=$out/sft-fixed" \
  --set learning_rate=5.0e-4 --set epochs=1
step reference reference reference-small --input "$out/problems" --set "model=$out/sft"

# Stage 3.
chrpo=(--input "$out/reference" --set "model=$out/sft" --set "replay.rows=$out/mix-fixed")
step chrpo chrpo chrpo-small "${chrpo[@]}"
# And at forced levels: those that users name are trained by the same rewards, two problems of
# twelve still choosing (0.8334 gives exactly that; those are rewarded as if every problem needed 1.0,
# since it is only measured how long 1.0 is).
step lengths reference reference-small --input "$out/problems" --set "model=$out/chrpo" \
  --set "levels=[1.0]" --set k=1 --set limit=2500 --set "splits=[train]"
step practised chrpo chrpo-small --input "$out/lengths" --set "dev=$out/reference" \
  --set "model=$out/chrpo" --set "replay.rows=$out/mix-fixed" --set replay.weight=0.2 \
  --set given_share=0.8334 --set steps=200 --set schedule=cosine --set checkpoint_every=25

# Evaluation through vLLM: `measure NAME MODEL [FLAG …]` into $out/eval-NAME, the problems
# of $asked, by a server with $serve_flags.
asked=$out/problems-test
serve_flags=()
measure() {
  local name=$1 model=$2
  shift 2
  step "draft-$name" publish publish-draft --set "model=$model" --set "name=$name"
  serving "$out/draft-$name" "eval-$name" "${serve_flags[@]}"
  step "eval-$name" evaluate evaluate-small --input "$asked" \
    --set "model=draft-$name" --set "dataset=held-out numbers" \
    --set "base_url=http://127.0.0.1:$port/v1" "$@"
  served
}
measure small "$out/practised" --set "reference=$out/reference"
step published publish publish --set "model=$out/practised" --set "evaluation=$out/eval-small" \
  --set name=small

[[ $baselines ]] || exit 0
levels="budgets=[0.2,0.4,0.6,0.8,1.0]"

# Families that nothing was trained on.
measure families "$out/practised" --set "splits=[heldout_families]" --set "dataset=held-out families" \
  --set "budgets=[0.2,1.0,auto]"
# Problems whose words it does not know.
step problems-symbolic problems problems-small-symbolic
asked=$out/problems-symbolic
for split in test heldout_families; do
  measure "symbolic-$split" "$out/practised" --set "splits=[$split]" --set "dataset=gsm_symbolic, $split" \
    --set "budgets=[0.2,1.0,auto]"
done
if [[ ${GSM8K:-} ]]; then
  step problems-gsm8k-test problems problems-gsm8k --set "sources.0.path=$GSM8K/test.jsonl" \
    --set sources.0.split=test --set "contamination.against=[]"
  asked=$out/problems-gsm8k-test
  measure gsm8k "$out/practised" --set "dataset=GSM8K test" --set "budgets=[0.2,1.0,auto]"
fi
asked=$out/problems-test
# Before any training.
step sft-untrained sft sft-small --input "$out/mix-fixed" --set "model=$out/base" \
  --set max_steps=1 --set learning_rate=1.0e-12
measure untrained "$out/sft-untrained" --set "budgets=[native]" --set limit=500
# No reasoning at all, which it was never taught.
measure none "$out/practised" --set "budgets=[none]" --set limit=1000
# Ours without its levels: asked to be brief in words; cut by force.
for words in 20 40 60 80; do
  measure "words-$words" "$out/practised" --set "budgets=[native]" \
    --set "suffix=Use about $words% of the words you would usually use."
done
serve_flags=(--card none --assumed-reasoning-tokens "${FULL_TOKENS:-181}")
measure caps "$out/practised" --set asking=ratios --set "budgets=[0.2,0.4,0.6,0.8]"
serve_flags=()
# Whole traces alone: what the levels start from.
measure whole "$out/sft-whole" --set "budgets=[native]"

# TokenSkip-style: a compressor that sees no question and no formula; and atoms at random.
step compressor-blind compressor compressor-minilm --input "$out/annotate" --set question=0
step compress-tokenskip compress compress-small --input "$out/teach" --set units=words \
  --set "compressor=$out/compressor-blind" --set "tokenizer=$out/base"
step compress-random compress compress-small --input "$out/teach" --set scores=random \
  --set compressor=null --set "tokenizer=$out/base"
for other in tokenskip random; do
  step "mix-$other" mix mix-small "${mixed[@]}" --set "compressed=$out/compress-$other" "${short[@]}"
  step "sft-$other" sft sft-small --input "$out/mix-$other" --set "model=$out/sft-whole"
  measure "$other" "$out/sft-$other" --set "$levels"
done
# Ours before CHRPO, after CHRPO without forced levels, and with other rewards.
measure sft "$out/sft" --set "budgets=[0.2,0.4,0.6,0.8,1.0,auto]"
measure chrpo "$out/chrpo" --set "budgets=[0.2,0.4,0.6,0.8,1.0,auto,native]"
rewarded() { # NAME SETTING
  step "chrpo-$1" chrpo chrpo-small "${chrpo[@]}" --set "$2"
  measure "$1" "$out/chrpo-$1" --set "budgets=[0.2,1.0,auto]"
}
rewarded length-penalty 'objective={kind: length_penalty, length_weight: 0.2, scale: group}'
rewarded no-ctrl objective.ctrl=false
rewarded no-mode objective.mode=false

compared() { # NAME RUN …: side by side, differences against the first
  local name=$1 runs=
  shift
  for run in "$@"; do runs+="${runs:+,}\"$run\":\"$out/eval-$run\""; done
  step "$name" compare compare --set "runs={$runs}" --set "base=$1"
}
compared compare small sft chrpo whole untrained tokenskip random caps
compared compare-sft sft tokenskip random      # none of them with rewards
compared compare-rewards chrpo length-penalty no-ctrl no-mode
