#!/usr/bin/env bash
# Chat templates of published models, as trl 1.16.0 keeps them (transformers 5.19.0, Jinja 3.1.6,
# Python 3.11): an earlier call without text, in the four forms in which it can be written down.
#
# OpenAI's API has `content: null` and arguments as a JSON string; one would guess that templates take
# that, or at least that one form suits them all. None does. DeepSeek's want the string and raise for
# an object, GLM's, LFM2's newer one and Nemotron's want an object and raise for the string. With null
# GLM's writes the word "None" into the prompt, gpt-oss's raises; with an empty text instead, the
# template of DeepSeek-R1's distilled models leaves the call out and keeps its result.
#
# Seen (template, then for null + object, null + string, empty + object, empty + string):
#   deepseek_r1_distill: raises, call, no call, no call
#   deepseekv3: raises, call, raises, call
#   glm4moe: call and "None", raises, call, raises
#   gptoss: raises, raises, call, call
#   lfm2_v2: call, raises, call, raises
#   nemotron_3_super: call, raises, call, raises
#   qwen3: call, call, call, call
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

CITY = {"type": "object", "properties": {"city": {"type": "string", "description": "c"}}}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "d", "parameters": CITY}}]
NAMES = ("deepseek_r1_distill", "deepseekv3", "glm4moe", "gptoss", "lfm2_v2", "nemotron_3_super", "qwen3")


def outcome(template, content, arguments):
    function = {"name": "weather", "arguments": arguments}
    call = {"id": "abcdefghi", "type": "function", "function": function}
    talk = [
        {"role": "user", "content": "Is it cold?"},
        {"role": "assistant", "content": content, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "abcdefghi", "name": "weather", "content": "minus 4"},
    ]
    try:
        ((text, *_), _) = render_jinja_template(
            [talk], chat_template=template, tools=TOOLS, bos_token="", eos_token="", add_generation_prompt=True
        )
    except (TemplateError, TypeError):
        return "raises"
    assert "minus 4" in text
    return ("call" if "Oslo" in text else "no call") + (' and "None"' if "None" in text else "")


for name in NAMES:
    template = Path(sys.argv[1], "trl/chat_templates", f"{name}.jinja").read_text()
    found = [outcome(template, *form) for content in (None, "") for form in
             ((content, {"city": "Oslo"}), (content, '{"city": "Oslo"}'))]
    print(f"{name}: " + ", ".join(found))
PY
"$folder/venv/bin/python" "$folder/try.py" "$folder/trl" 2> "$folder/errors" > "$folder/seen" ||
  { cat "$folder/errors" >&2; exit 1; }
cat "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
