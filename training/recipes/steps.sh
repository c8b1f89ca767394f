# Shared by the recipes; sourced, not run. Needs $out. PLAN=yes runs nothing and says what it would
# take (ASSUME: its --assume flags), PLAN=check whether every training could start on this machine.
train=${TRAIN_COMMAND:-extracot-train}
serve=${SERVE_COMMAND:-extracot-serve}
port=${PORT:-8123}
server=  # its process while one is served
if ! declare -p more &>/dev/null; then declare -A more; fi # see step
planned=() # with PLAN: the steps so far, as `extracot-train plan` reads them
trap finish EXIT
configs=training/configs
if [[ ! ${PLAN:-} ]]; then mkdir -p "$out"; fi

# Also when a stage fails: stops the server; a START that names no step is an error.
finish() {
  local code=$?
  kill "$server" 2>/dev/null || true
  if [[ $code == 0 && ${START:-} ]]; then echo "no step is named $START" >&2; exit 1; fi
  # shellcheck disable=SC2086  # TRAIN_COMMAND may be several words
  if [[ $code == 0 && ${PLAN:-} == check ]]; then $train plan --check "${planned[@]}"; fi
  # shellcheck disable=SC2086
  if [[ $code == 0 && ${PLAN:-} == yes ]]; then $train plan ${ASSUME:-} "${planned[@]}"; fi
}

# step NAME STAGE CONFIG [FLAG …]: one stage into $out/NAME; prints its time. STOP=NAME ends there,
# START=NAME begins there. A recipe may have further settings of it in ${more[NAME]}, parted by
# spaces.
step() {
  local name=$1 stage=$2 config=$3 began=$SECONDS setting flags=()
  shift 3
  if [[ ${START:-$name} != "$name" ]]; then return; fi
  START=
  flags=(--config "$configs/$config.yaml" --out "$out/$name" "$@")
  if [[ -v more[$name] ]]; then
    read -ra settings <<<"${more[$name]}"
    for setting in "${settings[@]}"; do flags+=(--set "$setting"); done
  fi
  if [[ ${PLAN:-} ]]; then
    planned+=(--step "$stage" "${flags[@]}")
  else
    # shellcheck disable=SC2086  # LAUNCH and TRAIN_COMMAND may be several words
    ${LAUNCH:-$train} "$stage" "${flags[@]}" || return
    echo "[$((SECONDS - began)) s, $SECONDS s in all]"
  fi
  if [[ ${STOP:-} == "$name" ]]; then exit 0; fi
}

# refused TEXT COMMAND …: run what has to be refused, with TEXT in what it says.
refused() {
  local text=$1 said
  shift
  if [[ ${PLAN:-}${DRY:-} ]]; then "$@"; return; fi
  if said=$("$@" 2>&1); then echo "was to be refused: $*" >&2; exit 1; fi
  printf '%s\n' "$said"
  if [[ $said != *"$text"* ]]; then echo "was to be refused with: $text" >&2; exit 1; fi
}

# serving FOLDER NAMES [FLAG …]: serve it until `served`, once it is ready, for the steps $out/NAME
# of these names, parted by spaces; if all have their report already, nothing is started. The log is
# $out/serve.log.
serving() {
  local folder=$1 names=$2 name missing=
  shift 2
  for name in $names; do if [[ ! -e $out/$name/report.md ]]; then missing=yes; fi; done
  if [[ ${DRY:-}${PLAN:-}${START:-} || ! $missing ]]; then return; fi
  "$serve" --model "$folder" --served-model-name "$(basename "$folder")" --port "$port" \
    --host 127.0.0.1 "$@" >"$out/serve.log" 2>&1 &
  server=$!
  until python3 -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1])' \
    "http://127.0.0.1:$port/ready" 2>/dev/null; do
    if ! kill -0 "$server" 2>/dev/null; then tail -n 20 "$out/serve.log" >&2; exit 1; fi
    sleep 1
  done
}

served() {
  if [[ ! ${server:-} ]]; then return; fi
  kill "$server"
  wait "$server" || true
  server=
}
