#!/usr/bin/env bash
# math-verify 0.9.0 (latex2sympy2_extended 1.11.0, sympy 1.14.0), Python 3.11: the base of a number
# is not compared.
#
# MATH and MATH-500 have golds such as 2516_8. One would guess that a verifier made for them parses
# the subscript as a base, or compares it as text. It drops it: 2516_9, 2516_{16} and plain 2516
# all equal 2516_8, so a reward or an accuracy counts answers in the wrong base as right. A
# subscript of a variable is kept (x_1 is not x_2), and 2A_{12} is not 2A_{13}, since it is read as
# a variable. The value is not used either: 52_8 does not equal 42.
#
# Seen (gold, answer, equal):
#   2516_8 2516_9 True
#   2516_8 2516_{16} True
#   2516_8 2516 True
#   52_8 42 False
#   x_1 x_2 False
#   2A_{12} 2A_{13} False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  math-verify==0.9.0 latex2sympy2_extended==1.11.0 sympy==1.14.0 antlr4-python3-runtime==4.13.2 mpmath==1.3.0
cat > "$folder/try.py" <<'PY'
from math_verify import parse, verify

pairs = [
    ("2516_8", "2516_9"), ("2516_8", "2516_{16}"), ("2516_8", "2516"),
    ("52_8", "42"), ("x_1", "x_2"), ("2A_{12}", "2A_{13}"),
]
for gold, answer in pairs:
    equal = verify(parse(f"\\boxed{{{gold}}}"), parse(f"\\boxed{{{answer}}}"))
    print(gold, answer, equal)
PY
"$folder/venv/bin/python" "$folder/try.py" | tee "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
