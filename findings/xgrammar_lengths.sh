#!/usr/bin/env bash
# xgrammar 0.2.8 (vLLM 0.32's first choice for JSON): a string with `minLength` or `maxLength` may
# hold raw control characters, so that what the grammar allows is no JSON. Python 3.11, Linux x86-64.
#
# RFC 8259 asks for escapes of U+0000 to U+001F in strings, and a plain {"type": "string"} keeps to
# it. With a length the same library lets all but line breaks through: a model that is held to
# {"type": "string", "maxLength": 5} can end with text that `json.loads` refuses, though every token
# was allowed. llguidance 1.7.6 refuses it with a length and without.
#
# Seen (schema, text, xgrammar accepts, llguidance accepts):
#   {} "a\tb" False False
#   {"maxLength": 5} "a\tb" True False
#   {"minLength": 1} "a\tb" True False
#   {"maxLength": 5} "a\nb" False False
#   {"maxLength": 5} "ab" True True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.13.0  # a build for the CPU is enough; the usual one is several GB
# All that xgrammar imports; triton, which it also asks for, is not needed for this.
"${pip[@]}" llguidance==1.7.6 apache-tvm-ffi==0.1.15.post2 numpy==2.3.5 \
  pydantic==2.14.3 transformers==5.19.0 typing-extensions==4.16.0
"${pip[@]}" --no-deps xgrammar==0.2.8
cat > "$folder/try.py" <<'PY'
import json

import llguidance
import xgrammar
from xgrammar.testing import _is_grammar_accept_string

tokenizer = llguidance.LLTokenizer("byte")
cases = [
    ({}, '"a\tb"'),
    ({"maxLength": 5}, '"a\tb"'),
    ({"minLength": 1}, '"a\tb"'),
    ({"maxLength": 5}, '"a\nb"'),
    ({"maxLength": 5}, '"ab"'),
]
for rule, text in cases:
    schema = json.dumps({"type": "string", **rule})
    one = _is_grammar_accept_string(xgrammar.Grammar.from_json_schema(schema), text)
    matcher = llguidance.LLMatcher(tokenizer, llguidance.LLMatcher.grammar_from_json_schema(schema))
    tokens = tokenizer.tokenize_str(text)
    taken = matcher.validate_tokens(tokens) == len(tokens)
    other = taken and matcher.consume_tokens(tokens) and matcher.is_accepting()
    print(json.dumps(rule), text.replace("\t", "\\t").replace("\n", "\\n"), one, other)
PY
"$folder/venv/bin/python" "$folder/try.py" 2> "$folder/errors" | tee "$folder/seen" ||
  { cat "$folder/errors" >&2; exit 1; }
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
