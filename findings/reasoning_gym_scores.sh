#!/usr/bin/env bash
# reasoning-gym 0.1.25 (Python 3.11): its own scores as a reward or as the measure of accuracy, for tasks
# whose answer is one whole number.
#
# One would guess that `score_answer` gives 1.0 to a right number however it is written, little or nothing
# to a wrong one, and the same in every task of this kind. It does neither:
# - `gsm_symbolic` reads the first number of the text and never a minus sign in front of it: "-20" is right
#   where 20 is asked for, a right negative answer earns 0.01, "1,520" is 1, and of "3 boxes of 7 make 21" it
#   takes the 3.
# - `chain_sum` (and gcd, lcm, products, leg_counting, count_primes, … likewise) gives a text that is longer
#   than the answer, but holds it, the share of it that the answer fills. So a wrong number with the right
#   digits in it earns 0.75, and the right one in a box or in a sentence 0.27 and 0.17.
# Who rewards whole replies with it teaches a model to write a bare number, and pays for wrong ones. Scores of
# replies should be of a number that was taken out before, by a grader of one's own.
#
# Seen (task, its answer, then the score of each text):
#   gsm_symbolic 20
#     1.00  20
#     1.00  -20
#     0.01  With 3 rows of 5 and 5 more there are 20.
#     1.00  The answer is \boxed{20}.
#   gsm_symbolic -2
#     0.01  -2
#   gsm_symbolic 1520
#     1.00  1520
#     0.01  1,520
#   chain_sum 214
#     1.00  214
#     0.75  1214
#     0.75  -214
#     0.27  \boxed{214}
#     0.17  The answer is 214.
set -euo pipefail
script=$(realpath "$0")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check reasoning-gym==0.1.25
cat > "$folder/try.py" <<'PY'
import sys
import warnings

warnings.simplefilter("ignore")
import reasoning_gym  # noqa: E402


def show(task, answer, texts):
    """An item of this answer, and what each text scores there."""
    items = reasoning_gym.create_dataset(task, size=6000, seed=3)
    item = next((item for item in items if item["answer"] == answer), None)
    if item is None:
        sys.exit(f"{task} has no item whose answer is {answer}")
    print(task, answer)
    for text in texts:
        print(f"  {items.score_answer(text, item):.2f}  {text}")


show(
    "gsm_symbolic",
    "20",
    ["20", "-20", "With 3 rows of 5 and 5 more there are 20.", r"The answer is \boxed{20}."],
)
show("gsm_symbolic", "-2", ["-2"])
show("gsm_symbolic", "1520", ["1520", "1,520"])
show("chain_sum", "214", ["214", "1214", "-214", r"\boxed{214}", "The answer is 214."])
PY
"$folder/venv/bin/python" -W ignore "$folder/try.py" > "$folder/seen"
cat "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$script") "$folder/seen"
echo "as stated"
