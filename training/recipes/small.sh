#!/usr/bin/env bash
# The bundled model `small`, from nothing: half a million weights with a tokenizer of their own, on
# our generator's problems, and its comparisons. Two CPU cores, no GPU.
#
#   training/recipes/small.sh               every stage; ends with the checkpoint and its report
#   training/recipes/small.sh --kept        takes what training/kept/small has of it: trained compressors, and
#                                           weights that have learnt whole traces and levels
#   training/recipes/small.sh --baselines   and what it is compared with, trained and measured alike
#   GSM8K=folder training/recipes/small.sh --baselines   also asks the test.jsonl there
#   OUT=folder training/recipes/small.sh    folder of the run (default runs/small)
#   STOP=reference training/recipes/small.sh   up to and with that step
#
# Every stage resumes and finished ones are skipped: run it again after an interruption. It made what
# server/extracot_server/models/small holds, which `make evaluate` measures: the stages up to the levels once,
# the rest by --kept. Of --baselines, seed 2, `fixed` and `tokenskip` were run.
set -euo pipefail
cd "$(dirname "$0")/../.."

baselines= kept=
for flag in "$@"; do
  case $flag in
    --baselines) baselines=yes ;;
    --kept) kept=training/kept/small ;;
    *) echo "unknown flag $flag" >&2; exit 2 ;;
  esac
done
out=${OUT:-runs/small}
source training/recipes/steps.sh

# have NAME: whether this step is kept; it is taken then, in place of the step.
have() {
  if [[ ! $kept || ! -d $kept/$1 ]]; then return 1; fi
  if [[ ! ${PLAN:-} && ! -d $out/$1 ]]; then cp -r "$kept/$1" "$out/$1"; fi
}

# Stage 1: a compressor like compressor_cpu.sh's, on more problems, since who is asked for is harder to
# tell of one to three. It sees the end of the question, three names long.
step compressor-problems problems problems-small-compressor
step compressor-teach teach teach-own --input "$out/compressor-problems"
step annotate annotate annotate-rules --input "$out/compressor-teach"
minilm=(--input "$out/annotate" --set attention_dropout=0)
have compressor || step compressor compressor compressor-minilm "${minilm[@]}" --set question=32

# Single stories, from which it learns arithmetic; then three at once, and which numbers belong to which
# story.
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
step mix-full mix mix-full --set "traces=$out/teach" --set "problems=$out/problems" \
  --set "model=$out/base"

# Evaluation through vLLM: `measure NAME MODEL [FLAG …]` into $out/eval-NAME, the problems
# of $asked.
asked=$out/problems-test
measure() {
  local name=$1 model=$2
  shift 2
  step "draft-$name" publish publish-draft --set "model=$out/$model" --set "name=$name"
  serving "$out/draft-$name" "eval-$name"
  step "eval-$name" evaluate evaluate-small --input "$asked" \
    --set "model=draft-$name" --set "dataset=held-out numbers" \
    --set "base_url=http://127.0.0.1:$port/v1" "$@"
  served
}

# Whole traces come before levels. `seeded NAME SEED MODEL INPUT [FLAG …]`: one fine-tuning.
seeded() {
  local name=$1 seed=$2 model=$3 rows=$4
  shift 4
  step "$name" sft sft-small --input "$out/$rows" --set "model=$out/$model" --set "seed=$seed" "$@"
}

# Rounds of the same again, until nine in ten of 500 problems aside (`dev`) are right: how many that takes
# differs by seed, and the loss does not tell. What is kept of them has learnt. Levels begin at
# ${learnt[SEED]}, the last round.
rounds=(again more more2 more3 more4 more5 more6 more7)
aside=(--set "splits=[dev]" --set limit=500 --set "budgets=[native]" --set "dataset=problems aside")
declare -A learnt
whole() { # SUFFIX SEED BASE
  local round from="sft-whole$1" asked=$out/problems
  for round in "${rounds[@]}"; do
    learnt[$2]=sft-$round$1
    if have "sft-$round$1"; then return; fi
  done
  seeded "sft-single$1" "$2" "$3" mix-single --set learning_rate=3.0e-3 --set epochs=1.5
  seeded "$from" "$2" "sft-single$1" mix-full --set learning_rate=2.0e-3 --set epochs=2
  for round in "${rounds[@]}"; do
    learnt[$2]=sft-$round$1
    seeded "${learnt[$2]}" "$2" "$from" mix-full --set learning_rate=2.5e-3 --set epochs=3
    measure "$round$1" "${learnt[$2]}" "${aside[@]}"
    if nine_in_ten "$round$1"; then return; fi
    from=${learnt[$2]}
  done
  echo "seed $2 has not learnt its whole traces in ${#rounds[@]} rounds: see $out/eval-$round$1/report.md" >&2
  exit 1
}
nine_in_ten() { # ROUND: by its report; without one, as in a plan, one round is enough
  local report=$out/eval-$1/report.json
  if [[ ${PLAN:-}${START:-} && ! -e $report ]]; then return; fi
  python3 -c 'import json, sys; report = json.load(open(sys.argv[1]))
sys.exit(report["budgets"]["native"]["accuracy"]["mean"] < 0.9)' "$report"
}
whole "" 1 base

# Stage 2: rows of every level; two rounds, each with more of the short ones first, whose rows are quick to
# learn from, and then of the long ones. Whatever ours is compared with goes through the same rounds, from
# the same whole traces: `compressed NAME FLAG …` makes its rows, `levels SUFFIX SEED NAME` trains on them.
mixed=(--set "traces=$out/teach" --set "problems=$out/problems" --set "model=$out/base")
short=(--set "level_shares=[1.0,0.8,0.6,0.35,0.35]" --set further_native=1500)
long=(--set "level_shares=[0.5,0.6,0.8,0.8,1.0]")
compressed() {
  local name=$1
  shift
  step "compress$name" compress compress-small --input "$out/teach" --set "tokenizer=$out/base" "$@"
  step "mix-short$name" mix mix-small "${mixed[@]}" --set "compressed=$out/compress$name" "${short[@]}"
  step "mix-long$name" mix mix-small "${mixed[@]}" --set "compressed=$out/compress$name" "${long[@]}"
}
levels() { # SUFFIX SEED NAME: from the last of its four steps that is kept
  have "sft-levels$1$3" || {
    have "sft-short-again$1$3" || {
      have "sft-fixed$1$3" || {
        have "sft-short$1$3" || seeded "sft-short$1$3" "$2" "${learnt[$2]}" "mix-short$3" --set epochs=3
        seeded "sft-fixed$1$3" "$2" "sft-short$1$3" "mix-long$3" "${longer[@]}"
      }
      seeded "sft-short-again$1$3" "$2" "sft-fixed$1$3" "mix-short$3" --set epochs=3
    }
    seeded "sft-levels$1$3" "$2" "sft-short-again$1$3" "mix-long$3" "${longer[@]}"
  }
}
longer=(--set learning_rate=2.0e-3 --set epochs=1.6 --set warmup=0.02)
compressed "" --set "compressor=$out/compressor"
levels "" 1 ""

# Then the choice as it was measured, and stage 3: every level tried for half of the problems, which
# trains the choice; a level named by the prompt for the others, which trains what users name.
chosen() { # SUFFIX SEED
  step "reference-fixed$1" reference reference-small --input "$out/problems" \
    --set "model=$out/sft-levels$1" --set "seed=$2"
  step "mix-policy$1" mix mix-policy-brief "${mixed[@]}" --set "compressed=$out/compress" \
    --set "reference=$out/reference-fixed$1" --set "model=$out/sft-levels$1"
  seeded "sft$1" "$2" "sft-levels$1" "mix-policy$1" --set learning_rate=5.0e-4 --set epochs=1
  step "reference$1" reference reference-small --input "$out/problems" \
    --set "model=$out/sft$1" --set "seed=$2"
  step "chrpo$1" chrpo chrpo-small --input "$out/reference$1" --set "model=$out/sft$1" \
    --set "replay.rows=$out/mix-long" --set "seed=$2"
}
chosen "" 1

measure small chrpo --set "reference=$out/reference"
step published publish publish-small --set "model=$out/chrpo" --set "evaluation=$out/eval-small"

[[ $baselines ]] || exit 0
every="budgets=[0.2,0.4,0.6,0.8,1.0]"
few="budgets=[0.2,0.4,0.6,1.0,auto]"

# Ours from another seed, whole.
step base-2 base base-small --set "inputs=[$out/teach,$out/teach-single]" --set seed=2
whole -2 2 base-2
levels -2 2 ""
chosen -2 2
measure small-2 chrpo-2 --set "reference=$out/reference-2"

# Ours before any reward: the fair partner of what has none. The same compressor that sees no question,
# and the same that knows no formulas; and neither, as TokenSkip and LLMLingua-2 do.
measure sft sft --set "budgets=[0.2,0.4,0.6,0.8,1.0,auto]"
measure fixed sft-levels --set "$every"
baseline() { # NAME FLAG …: of its rows
  local name=$1
  shift
  if ! have "sft-levels-$name"; then compressed "-$name" "$@"; fi
  levels "" 1 "-$name"
  measure "$name" "sft-levels-$name" --set "$every"
}
have compressor-blind ||
  step compressor-blind compressor compressor-minilm "${minilm[@]}" --set question=0
baseline blind --set "compressor=$out/compressor-blind"
baseline words --set "compressor=$out/compressor" --set units=words
baseline tokenskip --set "compressor=$out/compressor-blind" --set units=words
# Whole traces alone: what the levels start from. And before any training.
measure whole "${learnt[1]}" --set "budgets=[native]"
seeded sft-untrained 1 base mix-long --set max_steps=1 --set learning_rate=1.0e-12
measure untrained sft-untrained --set "budgets=[native]" --set limit=500
# No reasoning at all, which it was never taught.
measure none chrpo --set "budgets=[none]" --set limit=1000

# Families that nothing was trained on; problems whose words it does not know.
measure families chrpo --set "splits=[heldout_families]" --set "dataset=held-out families" \
  --set "$few"
step problems-symbolic problems problems-small-symbolic
asked=$out/problems-symbolic
for split in test heldout_families; do
  measure "symbolic-$split" chrpo --set "splits=[$split]" --set "dataset=gsm_symbolic, $split" \
    --set "$few"
done
if [[ ${GSM8K:-} ]]; then
  step problems-gsm8k-test problems problems-gsm8k --set "sources.0.path=$GSM8K/test.jsonl" \
    --set sources.0.split=test --set "contamination.against=[]"
  asked=$out/problems-gsm8k-test
  measure gsm8k chrpo --set "dataset=GSM8K test" --set "$few"
fi
asked=$out/problems-test

# Other rewards.
rewarded() { # NAME SETTING …
  local name=$1
  shift
  step "chrpo-$name" chrpo chrpo-small --input "$out/reference" --set "model=$out/sft" \
    --set "replay.rows=$out/mix-long" "$@"
  measure "$name" "chrpo-$name" --set "$few"
}
rewarded capped --set 'objective={kind: chrpo_capped}'
rewarded length-penalty --set given_share=0 \
  --set 'objective={kind: length_penalty, length_weight: 0.2, scale: group}'

compared() { # NAME RUN …: side by side, differences against the first
  local name=$1 runs=
  shift
  for run in "$@"; do runs+="${runs:+,}\"$run\":\"$out/eval-$run\""; done
  step "$name" compare compare --set "runs={$runs}" --set "base=$1"
}
compared compare small small-2 sft fixed whole untrained
compared compare-rows fixed blind words tokenskip      # none of them with rewards
compared compare-rewards small capped length-penalty
