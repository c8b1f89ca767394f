#!/usr/bin/env bash
# llguidance 1.7.6 (vLLM 0.32's second grammar library for JSON): an object of many optional
# properties passes `validate_grammar` and fails at its first brace. Python 3.11, Linux on x86-64.
#
# One would guess that a schema too large for the library is refused when it is read: that is what
# `validate_grammar` is called for, before a request is taken. How many things may come next is
# counted only as text comes, four for each optional property, and the limit is 2000. So 498
# properties work, and of 499 the validation says that all is well and the mask of the first step
# allows "{", which is then refused: only the end of the text is allowed after it. The edge moves
# with `additionalProperties` (500 if false), required properties do not count, and a larger
# `LLParserLimits(max_items_in_row=…)`, if one knows of it, lifts it.
#
# Seen (properties; what they are; errors of the validation, "{" allowed, then taken, text taken):
#   300 optional '' True True True
#   498 optional '' True True True
#   499 optional '' True False False
#   500 optional, none else '' True True True
#   501 optional, none else '' True False False
#   2000 required '' True True True
#   501 optional, larger limit '' True True True
#   499: Parser Error: Current row has 2003 items; max is 2000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check llguidance==1.7.6
cat > "$folder/try.py" <<'PY'
import json

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

tokenizer = LLTokenizer("byte")
brace = tokenizer.tokenize_str("{")[0]


def show(count, kind):
    names = [f"p{number}" for number in range(count)]
    schema = {"type": "object", "properties": {name: {"type": "integer"} for name in names}}
    text = '{"p0":1'
    if kind == "required":
        schema["required"] = names
    if kind.endswith("none else"):
        schema["additionalProperties"] = False
    limits = LLParserLimits(max_items_in_row=9000) if kind.endswith("limit") else None
    grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema))
    errors = LLMatcher.validate_grammar(grammar, None, limits=limits)
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=limits)
    allowed = bool(matcher.compute_logit_bias()[brace])
    taken = matcher.consume_token(brace)
    rest = taken and matcher.consume_tokens(tokenizer.tokenize_str(text)[1:])
    print(count, kind, repr(errors), allowed, taken, rest)
    return matcher.get_error()


show(300, "optional")
show(498, "optional")
error = show(499, "optional")
show(500, "optional, none else")
show(501, "optional, none else")
show(2000, "required")
show(501, "optional, larger limit")
print("499:", "; ".join(error.split("; ")[:2]))
PY
"$folder/venv/bin/python" "$folder/try.py" | tee "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
