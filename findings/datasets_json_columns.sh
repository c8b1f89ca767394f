#!/usr/bin/env bash
# datasets 5.2.0 (pyarrow as it brings it, Python 3.11): a local JSONL file of problems by
# `load_dataset("json", data_files=…)`.
#
# One would guess that values come back as they stand in the file, or that the load fails. A column
# of integers of which one has more than 64 bits comes back as floats, all of them: 7 is 7.0, and the
# long one has lost digits, so that an answer of a problem is another number. The text "true" in a
# column that has numbers, too, comes back as the boolean. Nothing is said in either case.
#
# Seen (what the file holds, what comes back):
#   7, 36893488147419103233 -> 7.0, 3.6893488147419103e+19
#   "true", 7 -> True, 7
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0
cat > "$folder/try.py" <<'PY'
import json
import sys
from pathlib import Path

from datasets import load_dataset

for at, values in enumerate(((7, 2**65 + 1), ("true", 7))):
    file = Path(sys.argv[1], f"rows{at}.jsonl")
    file.write_text("".join(json.dumps({"answer": value}) + "\n" for value in values))
    read = load_dataset("json", data_files=str(file), split="train")["answer"]
    print(", ".join(map(json.dumps, values)), "->", ", ".join(map(repr, read)))
PY
HF_HOME="$folder/cache" "$folder/venv/bin/python" "$folder/try.py" "$folder" \
  2> "$folder/errors" > "$folder/seen" || { cat "$folder/errors" >&2; exit 1; }
cat "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
