# Shared by the recipes; sourced, not run. Needs $out.
train=${TRAIN_COMMAND:-extracot-train}
serve=${SERVE_COMMAND:-extracot-serve}
port=${PORT:-8123}
server= # its process while one is served
trap finish EXIT
configs=training/configs
mkdir -p "$out"

# Also when a stage fails: stops the server; a START that names no step is an error.
finish() {
  local code=$?
  kill "$server" 2>/dev/null || true
  if [[ $code == 0 && ${START:-} ]]; then echo "no step is named $START" >&2; exit 1; fi
}

# step NAME STAGE CONFIG [FLAG …]: one stage into $out/NAME; prints its time. STOP=NAME ends there,
# START=NAME begins there.
step() {
  local name=$1 stage=$2 config=$3 began=$SECONDS
  shift 3
  if [[ ${START:-$name} != "$name" ]]; then return; fi
  START=
  # shellcheck disable=SC2086  # LAUNCH and TRAIN_COMMAND may be several words
  ${LAUNCH:-$train} "$stage" --config "$configs/$config.yaml" --out "$out/$name" "$@"
  echo "[$((SECONDS - began)) s, $SECONDS s in all]"
  if [[ ${STOP:-} == "$name" ]]; then exit 0; fi
}

# serving FOLDER NAME [FLAG …]: serve it until `served`, once it is ready, for the step $out/NAME; if
# that has its report already, nothing is started. The log is $out/serve.log.
serving() {
  local folder=$1 name=$2
  shift 2
  if [[ ${DRY:-}${START:-} || -e $out/$name/report.md ]]; then return; fi
  "$serve" --model "$folder" --port "$port" --host 127.0.0.1 "$@" >"$out/serve.log" 2>&1 &
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
