#!/usr/bin/env bash
# math-verify 0.9.0 (latex2sympy2_extended 1.11.0, sympy 1.14.0), Python 3.11: plain answers in a
# box, words and numbers with words, are read as products of letters.
#
# One would guess that it compares words as words, and a number with a unit by its number. Inside
# \text{} it does. Bare, a word is a product of its letters, so anagrams are equal; "18 apples" is
# 18 but "18 dollars" is not; a mixed number counts as its first number, and so do several numbers
# with units. An ordered pair equals a set. E-notation and a degree sign are not read. So a reward
# or an accuracy on word problems pays for wrong answers and refuses right ones.
#
# Seen (gold | answer | equal):
#   May | Amy | True
#   listen | silent | True
#   \text{May} | \text{Amy} | False
#   18 | 18 apples | True
#   18 | 18 dollars | False
#   18 | 18\text{ dollars} | True
#   1 | 1 1/2 | True
#   1.5 | 1 1/2 | False
#   3 | 3 \text{ feet } 6 \text{ inches} | True
#   \{1,2\} | (1,2) | True
#   0.00001 | 1e-05 | False
#   10 | 10° | False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  math-verify==0.9.0 latex2sympy2_extended==1.11.0 sympy==1.14.0 antlr4-python3-runtime==4.13.2 mpmath==1.3.0
cat > "$folder/try.py" <<'PY'
import sys

from math_verify import parse, verify

for line in sys.stdin:
    gold, answer, _ = line.rstrip("\n").split(" | ")
    equal = verify(parse(f"\\boxed{{{gold}}}"), parse(f"\\boxed{{{answer}}}"))
    print(gold, answer, equal, sep=" | ")
PY
sed -n '/^# Seen/,/^set/s/^#   //p' "$0" > "$folder/stated"
"$folder/venv/bin/python" "$folder/try.py" < "$folder/stated" | tee "$folder/seen"
diff "$folder/stated" "$folder/seen"
echo "as stated"
