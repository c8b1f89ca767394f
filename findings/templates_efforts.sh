#!/usr/bin/env bash
# Chat templates of published models, as trl 1.16.0 keeps them (transformers 5.19.0, Jinja 3.1.6,
# Python 3.11): the variable `reasoning_effort`, with the words that OpenAI's API has for it.
#
# One would guess that "high" is understood by whoever takes an effort at all, that leaving it out is
# the middle, and that a word nobody knows is refused. Qwen3.8 raises for "high", "none" and
# "minimal": it knows low, medium and xhigh, and leaving it out is the most. gpt-oss writes any word
# into its prompt as the effort, one that means nothing as well, and leaving it out is the middle.
#
# Seen (template, effort, what the prompt says of it; "as …": the same prompt as with that):
#   qwen3_8 (none given) as xhigh
#   qwen3_8 none TemplateError
#   qwen3_8 minimal TemplateError
#   qwen3_8 low own words
#   qwen3_8 medium nothing
#   qwen3_8 high TemplateError
#   qwen3_8 xhigh own words
#   gptoss (none given) as medium
#   gptoss none Reasoning: none
#   gptoss minimal Reasoning: minimal
#   gptoss low Reasoning: low
#   gptoss medium Reasoning: medium
#   gptoss high Reasoning: high
#   gptoss xhigh Reasoning: xhigh
#   gptoss mango Reasoning: mango
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" transformers==5.19.0 jinja2==3.1.6
"${pip[@]}" --no-deps --target "$folder/trl" trl==1.16.0  # for its templates, which are plain files
cat > "$folder/try.py" <<'PY'
import re
import sys
from pathlib import Path

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

WORDS = ("none", "minimal", "low", "medium", "high", "xhigh")
TALK = [{"role": "user", "content": "u"}]


def prompt(template, **variables):
    ((text, *_), _) = render_jinja_template(
        [TALK], chat_template=template, bos_token="", add_generation_prompt=True, **variables
    )
    return text


for name, words in (("qwen3_8", WORDS), ("gptoss", (*WORDS, "mango"))):
    template = Path(sys.argv[1], "trl/chat_templates", f"{name}.jinja").read_text()
    found = {}
    for word in words:
        try:
            found[word] = prompt(template, reasoning_effort=word)
        except TemplateError:
            found[word] = None
    plain = prompt(template)
    print(name, "(none given)", "as", *(word for word, text in found.items() if text == plain))
    for word, text in found.items():
        if text is None:
            print(name, word, "TemplateError")
        elif said := re.search(r"Reasoning: \w+", text):
            print(name, word, said[0])
        else:
            print(name, word, "own words" if "<|im_start|>system" in text else "nothing")
PY
"$folder/venv/bin/python" "$folder/try.py" "$folder/trl" 2> "$folder/errors" > "$folder/seen" ||
  { cat "$folder/errors" >&2; exit 1; }
cat "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
