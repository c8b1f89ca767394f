#!/usr/bin/env bash
# lm-format-enforcer 0.11.3 with PyYAML 6.0.3 (Python 3.11): configurations with a day in them, read by
# yaml.safe_load in a process that has imported vLLM.
#
# One would guess that importing a library for constrained decoding, which vLLM requires, leaves the YAML
# reader of the process alone. Its module of JSON schemas replaces, when it is imported, the reader of days
# and times in yaml.SafeLoader's own table by the one of texts. So the same file gives a `datetime.date`
# before the import and a `str` after it, for every user of safe_load in the process: a day that does not
# exist (2025-13-45) is an error before and a text after. Tests that depend on it pass or fail by the order
# in which they run.
# Who reads days should have a loader of their own with the reader added to it.
#
# Seen:
#   before: date 2026-11-30
#   after:  str 2026-11-30
#   own:    date 2026-11-30
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check lm-format-enforcer==0.11.3 pyyaml==6.0.3
cat > "$folder/try.py" <<'PY'
import yaml

TEXT = "day: 2026-11-30"


def show(when, value):
    return f"{when:<7} {type(value).__name__} {value}"


seen = [show("before:", yaml.safe_load(TEXT)["day"])]
import lmformatenforcer  # noqa: E402, F401

seen.append(show("after:", yaml.safe_load(TEXT)["day"]))


class Own(yaml.SafeLoader):
    """A table of its own."""


Own.add_constructor(
    "tag:yaml.org,2002:timestamp", yaml.constructor.SafeConstructor.construct_yaml_timestamp
)
seen.append(show("own:", yaml.load(TEXT, Loader=Own)["day"]))
print("\n".join(seen))
PY
want="before: date 2026-11-30
after:  str 2026-11-30
own:    date 2026-11-30"
got=$("$folder/venv/bin/python" "$folder/try.py")
echo "$got"
if [[ $got != "$want" ]]; then
  echo "the behaviour changed; wanted:"
  echo "$want"
  exit 1
fi
