#!/usr/bin/env bash
# transformers 5.19.0 with torch 2.13.0 (Python 3.11): a callback of the Trainer that logs a figure of
# its own (a reward, a ratio) at the end of each step, by `Trainer.log`.
#
# One would guess that its line comes in addition to the Trainer's own (loss, learning rate). It comes
# instead: `log` calls the callbacks' `on_log`, and with it clears `control.should_log`, which is asked
# only after `on_step_end`. The losses of all steps are gone from history and trackers, without a word.
# The same callback at `on_step_begin` loses nothing.
#
# Seen (where the callback logs, then how many of three steps have loss and how many its figure):
#   nowhere: loss 3, figure 0
#   on_step_begin: loss 3, figure 3
#   on_step_end: loss 0, figure 3
set -euo pipefail
script=$(realpath "$0")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.13.0
"${pip[@]}" transformers==5.19.0 accelerate==1.15.0
cat > "$folder/try.py" <<'PY'
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x, labels):
        found = self.layer(x)
        return {"loss": ((found - labels) ** 2).mean(), "logits": found}


class Figure(TrainerCallback):
    def __init__(self, moment):
        self.trainer = None
        setattr(self, moment, lambda *rest, **more: self.trainer.log({"figure": 1.0}))


rows = [{"x": [float(number)], "labels": [2.0 * number]} for number in range(3)]
for moment in ("nowhere", "on_step_begin", "on_step_end"):
    settings = TrainingArguments(
        "out", max_steps=3, logging_steps=1, per_device_train_batch_size=1, use_cpu=True,
        report_to=[], save_strategy="no", disable_tqdm=True,
    )
    figure = Figure(moment)
    figure.trainer = Trainer(Line(), settings, train_dataset=rows, callbacks=[figure])
    figure.trainer.train()
    lines = figure.trainer.state.log_history
    counts = [sum(name in line for line in lines) for name in ("loss", "figure")]
    print(f"{moment}: loss {counts[0]}, figure {counts[1]}", flush=True)
PY
cd "$folder"
venv/bin/python try.py > seen.all 2> errors || { cat errors >&2; exit 1; }
grep -E "^(nowhere|on_step)" seen.all > seen
cat seen
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$script") seen
echo "as stated"
