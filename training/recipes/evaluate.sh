#!/usr/bin/env bash
# Evaluates the bundled model (or any other) the way users see it: serves it with vLLM and asks 2,000
# held-out word problems at every budget. `make evaluate` runs this.
#
#   training/recipes/evaluate.sh                    about half an hour on two CPU cores
#   training/recipes/evaluate.sh --limit 100        a quick look
#   training/recipes/evaluate.sh --model FOLDER     another checkpoint with a budget card
#   training/recipes/evaluate.sh --families         problems of families that it has never seen
#
# Run it again after an interruption and it resumes. The report is written to $OUT (default runs/evaluate) and is printed.
set -euo pipefail
cd "$(dirname "$0")/../.."

model=small limit= families=
while [[ $# -gt 0 ]]; do
  case $1 in
    --model | --limit)
      [[ $# -gt 1 ]] || { echo "$1 wants a value" >&2; exit 2; }
      declare "${1#--}=$2"
      shift
      ;;
    --families) families=-families ;;
    *) echo "unknown flag $1; there are --model, --limit, --families" >&2; exit 2 ;;
  esac
  shift
done
if [[ $limit && ! $limit =~ ^[1-9][0-9]*$ ]]; then
  echo "--limit $limit: want a whole number of at least 1" >&2
  exit 2
fi
out=${OUT:-runs/evaluate}
source training/recipes/steps.sh

served_name=$(basename "$model")
name=$served_name$families${limit:+-first-$limit}
asked=(--set "dataset=held-out numbers")
if [[ $families ]]; then
  asked=(--set "dataset=held-out families" --set "splits=[heldout_families]")
fi
# Its training problems, so that none of their stories is asked.
step learnt problems problems-small
step learnt-single problems problems-small-single
step problems problems problems-small-test \
  --set "sources.0.unlike=[$out/learnt,$out/learnt-single]"
serving "$model" "$name"
step "$name" evaluate evaluate-small --input "$out/problems" --set "model=$served_name" \
  --set "base_url=http://127.0.0.1:$port/v1" ${limit:+--set "limit=$limit"} "${asked[@]}"
served
if [[ ! ${DRY:-} ]]; then cat "$out/$name/report.md"; fi
