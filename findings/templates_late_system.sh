#!/usr/bin/env bash
# Chat templates of published models, as trl 1.16.0 keeps them (transformers 5.19.0, Jinja 3.1.6,
# Python 3.11): a system message that is not the first one.
#
# A chat API takes a system message anywhere, so one would guess that a template writes it where it
# stands or refuses it. Each does something else, mostly without a word. Gemma 3 has two kinds of
# turn, user and model; its template folds a first system message into the user's, and for a later
# one opens a turn "system" if it stands where an answer would, and refuses it one place later.
# DeepSeek-R1's distilled models' moves it to the start, and of two keeps the last; Qwen3-VL's and
# gpt-oss's leave it out; Qwen3.6's refuses it. Qwen3's writes it where it stands.
#
# Seen (template; user "u", system "SYS", user "v"; the same after an answer "a"):
#   gemma3 | <start_of_turn>user\nu<end_of_turn>\n<start_of_turn>system\nSYS<end_of_turn>\n<start_of_turn>user\nv<end_of_turn>\n | TemplateError: Conversation roles must alternate user/assistant/user/assistant/...
#   deepseek_r1_distill | SYS<｜User｜>u<｜User｜>v | SYS<｜User｜>u<｜Assistant｜>a<｜end▁of▁sentence｜><｜User｜>v
#   qwen3_vl | <|im_start|>user\nu<|im_end|>\n<|im_start|>user\nv<|im_end|>\n | <|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n<|im_start|>user\nv<|im_end|>\n
#   gptoss | …<|start|>user<|message|>u<|end|><|start|>user<|message|>v<|end|> | …<|start|>user<|message|>u<|end|><|start|>assistant<|channel|>final<|message|>a<|end|><|start|>user<|message|>v<|end|>
#   qwen3_6 | TemplateError: System message must be at the beginning. | TemplateError: System message must be at the beginning.
#   qwen3 | <|im_start|>user\nu<|im_end|>\n<|im_start|>system\nSYS<|im_end|>\n<|im_start|>user\nv<|im_end|>\n | <|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n<|im_start|>system\nSYS<|im_end|>\n<|im_start|>user\nv<|im_end|>\n
#   deepseek_r1_distill of two: SYS<｜User｜>u
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" transformers==5.19.0 jinja2==3.1.6
"${pip[@]}" --no-deps --target "$folder/trl" trl==1.16.0  # for its templates, which are plain files
cat > "$folder/try.py" <<'PY'
import sys
from pathlib import Path

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template


def render(name, *talk):
    template = Path(sys.argv[1], "trl/chat_templates", f"{name}.jinja").read_text()
    messages = [{"role": role, "content": text} for role, text in talk]
    try:
        ((text, *_), _) = render_jinja_template([messages], chat_template=template, bos_token="")
    except TemplateError as error:
        return f"TemplateError: {error}"
    head, found, tail = text.partition("<|start|>user")  # before it gpt-oss's has the day's date
    return (f"…{found}{tail}" if found and "SYS" not in head else text).replace("\n", "\\n")


late = [("system", "SYS"), ("user", "v")]
for name in ("gemma3", "deepseek_r1_distill", "qwen3_vl", "gptoss", "qwen3_6", "qwen3"):
    print(name, render(name, ("user", "u"), *late), sep=" | ", end=" | ")
    print(render(name, ("user", "u"), ("assistant", "a"), *late))
name = "deepseek_r1_distill"
print(name, "of two:", render(name, ("system", "FIRST"), ("user", "u"), ("system", "SYS")))
PY
"$folder/venv/bin/python" "$folder/try.py" "$folder/trl" 2> "$folder/errors" > "$folder/seen" ||
  { cat "$folder/errors" >&2; exit 1; }
cat "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
