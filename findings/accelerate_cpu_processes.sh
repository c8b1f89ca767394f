#!/usr/bin/env bash
# accelerate 1.15.0 with torch 2.13.0 (Python 3.11): several processes on a CPU of one machine, as one
# would rehearse a run for several GPUs.
#
# One would guess that `accelerate launch --cpu --num_processes 2` starts two, as it does with GPUs, or
# that it says why not. It starts one, without a warning and with exit status 0, and so does a
# configuration file with `distributed_type: MULTI_CPU`: a rehearsal of gathering, sharding and batch
# sizes passes without ever having run them. torchrun starts both for the same script.
#
# Seen (launcher, then a line for each process: rank, processes, kind, backend):
#   accelerate launch --cpu --num_processes 2
#   0 of 1 NO None
#   accelerate launch --config_file (MULTI_CPU, num_processes: 2)
#   0 of 1 NO None
#   torchrun --nproc-per-node 2
#   0 of 2 MULTI_CPU gloo
#   1 of 2 MULTI_CPU gloo
set -euo pipefail
script=$(realpath "$0")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.13.0
"${pip[@]}" accelerate==1.15.0
cat > "$folder/try.py" <<'PY'
from accelerate import Accelerator

state = Accelerator(cpu=True).state
line = f"{state.process_index} of {state.num_processes} {state.distributed_type.value} {state.backend}"
print(line + "\n", end="", flush=True)
PY
cat > "$folder/two.yaml" <<'YAML'
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_CPU
use_cpu: true
num_machines: 1
num_processes: 2
mixed_precision: 'no'
YAML
export HF_HOME="$folder/home" OMP_NUM_THREADS=1
cd "$folder"
{
  echo "accelerate launch --cpu --num_processes 2"
  venv/bin/accelerate launch --cpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no try.py
  echo "accelerate launch --config_file (MULTI_CPU, num_processes: 2)"
  venv/bin/accelerate launch --config_file two.yaml try.py
  echo "torchrun --nproc-per-node 2"
  venv/bin/torchrun --nproc-per-node 2 try.py | sort
} 2> errors > seen || { cat errors >&2; exit 1; }
if grep -i 'warning.*process' errors; then echo "a warning, which there was not" >&2; exit 1; fi
cat seen
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$script") seen
echo "as stated"
