#!/usr/bin/env bash
# The plainest way in: curl. First a whole reply, then a streamed one.
set -euo pipefail

url="${EXTRACOT_BASE_URL:-http://127.0.0.1:8000}"
url="${url%/}"
url="${url%/v1}/v1"
headers=(-H "content-type: application/json")
if [[ -n "${EXTRACOT_API_KEY:-}" ]]; then
  headers+=(-H "authorization: Bearer ${EXTRACOT_API_KEY}")
fi

echo "# A budget of 0.2: about a fifth of the reasoning the model would like to do"
curl --silent --show-error --fail-with-body "${headers[@]}" "$url/chat/completions" -d '{
  "messages": [{"role": "user", "content": "What is 12 * 12?"}],
  "budget": 0.2
}'
echo

echo "# The same, streamed; the report is in the last chunks"
curl --silent --show-error --fail-with-body --no-buffer "${headers[@]}" "$url/chat/completions" -d '{
  "messages": [{"role": "user", "content": "What is 12 * 12?"}],
  "budget": {"ratio": 0.4, "max_reasoning_tokens": 300},
  "stream": true,
  "stream_options": {"include_usage": true}
}'
