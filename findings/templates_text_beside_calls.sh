#!/usr/bin/env bash
# Chat templates of published models, as trl 1.16.0 keeps them (transformers 5.19.0, Jinja 3.1.6,
# Python 3.11): an assistant's message that has text and tool calls.
#
# A model often says a word before it calls ("Let me look that up."), and servers answer `content`
# beside `tool_calls`; sent back as history, one would guess that the model reads both. Llama 3.1's
# template drops the text; that of DeepSeek-R1's distilled models drops the call and keeps its
# result; gpt-oss's files the text under "analysis", as if the model had thought what it said; that
# of DiffusionGemma puts it behind the call's result. Qwen3's keeps both in their order.
#
# Seen (template, what was rendered for the assistant's message and the result of its call):
#   llama3_1 <|start_header_id|>assistant<|end_header_id|>\n\n{"name": "f", "parameters": {"x": 7}}<|eot_id|><|start_header_id|>ipython<|end_header_id|>\n\n"RESULT"<|eot_id|>
#   deepseek_r1_distill <｜Assistant｜>TEXT<｜end▁of▁sentence｜><｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>RESULT<｜tool▁output▁end｜><｜tool▁outputs▁end｜>
#   gptoss <|start|>assistant<|channel|>analysis<|message|>TEXT<|end|><|start|>assistant to=functions.f<|channel|>commentary json<|message|>{"x": 7}<|call|><|start|>functions.f to=assistant<|channel|>commentary<|message|>"RESULT"<|end|>
#   diffusion_gemma <|turn>model\n<|tool_call>call:f{x:7}<tool_call|><|tool_response>response:f{value:<|"|>RESULT<|"|>}<tool_response|>TEXT<turn|>\n
#   qwen3 <|im_start|>assistant\nTEXT\n<tool_call>\n{"name": "f", "arguments": {"x": 7}}\n</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\nRESULT\n</tool_response><|im_end|>\n
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

from transformers.utils.chat_template_utils import render_jinja_template


def render(name, talk):
    template = Path(sys.argv[1], "trl/chat_templates", f"{name}.jinja").read_text()
    ((text, *_), _) = render_jinja_template([talk], chat_template=template, bos_token="")
    return text


call = {"type": "function", "id": "c1", "function": {"name": "f", "arguments": {"x": 7}}}
talk = [
    {"role": "user", "content": "u"},
    {"role": "assistant", "content": "TEXT", "tool_calls": [call]},
    {"role": "tool", "tool_call_id": "c1", "content": "RESULT"},
]
for name in ("llama3_1", "deepseek_r1_distill", "gptoss", "diffusion_gemma", "qwen3"):
    text = render(name, talk).removeprefix(render(name, talk[:1]))
    print(name, text.replace("\n", "\\n"))
PY
"$folder/venv/bin/python" "$folder/try.py" "$folder/trl" 2> "$folder/errors" > "$folder/seen" ||
  { cat "$folder/errors" >&2; exit 1; }
cat "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
