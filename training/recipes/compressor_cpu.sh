#!/usr/bin/env bash
# From nothing to compressed traces on a CPU, in under ten minutes on two idle cores:
# problems -> teach (the data's own traces) -> annotate (rules) -> compressor -> compress.
#
#   training/recipes/compressor_cpu.sh              a compressor and five levels of its traces
#   training/recipes/compressor_cpu.sh --small      the same in a minute or so, as CI runs it
#   training/recipes/compressor_cpu.sh --fidelity   and the report: trains the reader and the
#                                                   compressor without question too
#
# Every stage resumes: run it again after an interruption. OUT is the folder of the run (default runs/compressor).
set -euo pipefail
cd "$(dirname "$0")/../.."

train=${TRAIN_COMMAND:-extracot-train}
out=${OUT:-runs/compressor}
configs=training/configs
small=() model=()
for flag in "$@"; do
  case $flag in
    --small)
      small=(--set sources.0.size=16 --set sources.1.size=8 --set sources.2.size=4
        --set sources.3.size=12)
      model=(--set epochs=1 --set evaluations=1 --set length=256)
      ;;
    --fidelity) fidelity=yes ;;
    *) echo "unknown flag $flag" >&2; exit 2 ;;
  esac
done

$train problems --config $configs/problems-compressor.yaml --out "$out/problems" "${small[@]}"
$train teach --config $configs/teach-own.yaml --input "$out/problems" --out "$out/teach"
$train annotate --config $configs/annotate-rules.yaml --input "$out/teach" --out "$out/annotate"
$train compressor --config $configs/compressor-minilm.yaml \
  --input "$out/annotate" --out "$out/model" "${model[@]}"
$train compress --config $configs/compress.yaml \
  --input "$out/teach" --out "$out/compress" --set "compressor=$out/model" --set limit=240

[[ ${fidelity:-} ]] || exit 0

judged=${FIDELITY_OUT:-runs/fidelity}
reader=${READER:-runs/reader}
$train reader --config $configs/reader.yaml --out "$reader"
$train compressor --config $configs/compressor-minilm.yaml --set question=0 \
  --input "$out/annotate" --out "$out/model-no-question" "${model[@]}"
$train problems --config $configs/problems-fidelity.yaml --out "$judged/problems"
$train teach --config $configs/teach-own.yaml --input "$judged/problems" --out "$judged/teach"
ratios=ratios=[0.1,0.2,0.4,0.6,0.8]
$train compress --config $configs/compress.yaml --input "$judged/teach" --out "$judged/compress" \
  --set "compressor=$out/model" --set "$ratios"
$train compress --config $configs/compress.yaml --input "$judged/teach" \
  --out "$judged/compress-lingua" --set "compressor=$out/model-no-question" \
  --set "$ratios" --set units=words
$train compress --config $configs/compress.yaml --input "$judged/teach" \
  --out "$judged/compress-blind" --set "compressor=$out/model-no-question" --set "$ratios"
$train fidelity --config $configs/fidelity.yaml --input "$judged/teach" \
  --set "ours=$judged/compress" --set "lingua=$judged/compress-lingua" \
  --set "blind=$judged/compress-blind" --set "reader=$reader" --out "$judged/report"
