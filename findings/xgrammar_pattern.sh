#!/usr/bin/env bash
# xgrammar 0.2.8 (the first choice of vLLM 0.32 for JSON), against llguidance 1.7.6: `pattern` of
# JSON Schema. Python 3.11, Linux on x86-64.
#
# In JSON Schema a `pattern` is searched for: "^[A-Z]" allows every text that begins with a capital.
# xgrammar reads it as a match of the whole text, so that the only texts allowed are one letter
# long: a model that is held to {"type": "string", "pattern": "^[A-Z]"} must write "A" and close the
# quote. vLLM 0.32 lets this through, and the replies keep to the schema, so nothing looks wrong but
# the data. Beside a pattern, `maxLength` is dropped without a word (vLLM sends that pair to
# llguidance, or refuses it where the backend is fixed to xgrammar).
# llguidance, vLLM's other grammar library, does what the specification says in all of these.
#
# Seen (schema, text, xgrammar accepts, llguidance accepts):
#   {"pattern": "^[A-Z]"} "Anna" False True
#   {"pattern": "^[A-Z]"} "A" True True
#   {"pattern": "^[A-Z].*"} "Anna" True True
#   {"pattern": "^[a-z]+$", "maxLength": 3} "anna" True False
#   {"maxLength": 3} "anna" False False
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
    ({"pattern": "^[A-Z]"}, "Anna"),
    ({"pattern": "^[A-Z]"}, "A"),
    ({"pattern": "^[A-Z].*"}, "Anna"),
    ({"pattern": "^[a-z]+$", "maxLength": 3}, "anna"),
    ({"maxLength": 3}, "anna"),
]
for rule, text in cases:
    schema, document = json.dumps({"type": "string", **rule}), json.dumps(text)
    one = _is_grammar_accept_string(xgrammar.Grammar.from_json_schema(schema), document)
    matcher = llguidance.LLMatcher(tokenizer, llguidance.LLMatcher.grammar_from_json_schema(schema))
    tokens = tokenizer.tokenize_str(document)
    taken = matcher.validate_tokens(tokens) == len(tokens)
    other = taken and matcher.consume_tokens(tokens) and matcher.is_accepting()
    print(json.dumps(rule), document, one, other)
PY
"$folder/venv/bin/python" "$folder/try.py" 2> "$folder/errors" | tee "$folder/seen" ||
  { cat "$folder/errors" >&2; exit 1; }
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
