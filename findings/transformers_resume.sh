#!/usr/bin/env bash
# transformers 5.19.0 with torch 2.13.0 (Python 3.11): a training that is resumed from its checkpoint,
# as a launcher does that runs the same command again after an interruption.
#
# One would guess that a checkpoint of the last step is the end: nothing is left to train. The Trainer
# looks for `max_steps` only after a step, so it trains one more, with the weights changed by it, unless
# the last step ends an epoch. One would also guess that today's `save_steps` and `logging_steps` count:
# it goes on with those of the checkpoint, and says so in a warning alone.
#
# Seen:
#   3 steps of 5 rows, resumed at step 3: step 4, other weights
#   5 steps of 5 rows, resumed at step 5: step 5, same weights
#   save_steps and logging_steps 2, resumed with 1: checkpoints 2 4, losses of steps 2 4
set -euo pipefail
script=$(realpath "$0")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.13.0
"${pip[@]}" transformers==5.19.0 accelerate==1.15.0
cat > "$folder/try.py" <<'PY'
import os

import torch
from transformers import Trainer, TrainingArguments


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x, labels):
        found = self.layer(x)
        return {"loss": ((found - labels) ** 2).mean(), "logits": found}


ROWS = [{"x": [float(number)], "labels": [2.0 * number]} for number in range(5)]


def trained(folder, max_steps, every=1, resumed=None):
    settings = TrainingArguments(
        folder, max_steps=max_steps, save_steps=every, logging_steps=every, use_cpu=True,
        per_device_train_batch_size=1, lr_scheduler_type="constant", learning_rate=0.1,
        report_to=[], save_strategy="steps", disable_tqdm=True,
    )
    trainer = Trainer(Line(), settings, train_dataset=ROWS)
    trainer.train(resume_from_checkpoint=resumed and f"{folder}/checkpoint-{resumed}")
    return trainer


for steps in (3, 5):
    first = trained(f"out{steps}", steps)
    again = trained(f"out{steps}", steps, resumed=steps)
    same = torch.equal(first.model.layer.weight, again.model.layer.weight)
    print(f"{steps} steps of 5 rows, resumed at step {steps}: step {again.state.global_step},",
          "same weights" if same else "other weights", flush=True)
trained("out", 4, every=2)
again = trained("out", 4, every=1, resumed=2)
saved = sorted(name.split("-")[1] for name in os.listdir("out"))
losses = [str(line["step"]) for line in again.state.log_history if "loss" in line]
print("save_steps and logging_steps 2, resumed with 1: checkpoints", *saved, end=", ")
print("losses of steps", *losses, flush=True)
PY
cd "$folder"
venv/bin/python try.py > seen.all 2> errors || { cat errors >&2; exit 1; }
grep -E "^([0-9] steps|save_steps)" seen.all > seen
cat seen
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$script") seen
echo "as stated"
