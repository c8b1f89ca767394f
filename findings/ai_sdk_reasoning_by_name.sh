#!/usr/bin/env bash
# @ai-sdk/openai 4.0.118 (ai 7.0.173), Node 20: whether a model reasons is read off its name.
#
# The provider takes a `baseURL`, so it is used with other servers. One would guess that options
# such as `reasoningEffort` and a `temperature` are passed on, for the server to judge. Which of
# them is sent depends on the model's name: names that begin as OpenAI's reasoning models do
# (the made-up "gpt-5.9-mine") lose the temperature and send system messages as "developer"; all
# others, OpenAI's own gpt-oss among them, lose the options for reasoning. What was dropped is told
# as warnings of the result. `forceReasoning: true` treats any name as one of the first kind.
#
# Seen (model, forceReasoning: reasoning, temperature, role of the system message; dropped):
#   gpt-oss-20b unset: none 0.5 system; reasoningEffort, reasoningSummary
#   my-model unset: none 0.5 system; reasoningEffort, reasoningSummary
#   gpt-5.9-mine unset: {"effort":"low","summary":"auto"} none developer; temperature
#   my-gpt-5.9 unset: none 0.5 system; reasoningEffort, reasoningSummary
#   my-model true: {"effort":"low","summary":"auto"} none developer; temperature
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --silent --no-audit --no-fund --prefix "$folder" \
  ai@7.0.173 @ai-sdk/openai@4.0.118 @ai-sdk/provider@4.0.38 @ai-sdk/provider-utils@5.0.81
cat > "$folder/try.mjs" <<'JS'
import { createServer } from "node:http";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText } from "ai";

globalThis.AI_SDK_LOG_WARNINGS = false; // they are read from the result
let got;
const content = [{ type: "output_text", text: "ok", annotations: [] }];
const answer = JSON.stringify({
  id: "r", object: "response", created_at: 1, model: "x", status: "completed",
  output: [{ type: "message", id: "m", role: "assistant", status: "completed", content }],
  usage: { input_tokens: 1, output_tokens: 1 },
});
const server = createServer(async (request, response) => {
  let text = "";
  for await (const piece of request) text += piece;
  got = JSON.parse(text);
  response.setHeader("Content-Type", "application/json").end(answer);
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const baseURL = `http://127.0.0.1:${server.address().port}`;
const openai = createOpenAI({ baseURL, apiKey: "-" });
for (const [name, forceReasoning] of [
  ["gpt-oss-20b"], ["my-model"], ["gpt-5.9-mine"], ["my-gpt-5.9"], ["my-model", true],
]) {
  const options = { reasoningEffort: "low", reasoningSummary: "auto", forceReasoning };
  const result = await generateText({
    model: openai(name), instructions: "s", prompt: "u", temperature: 0.5,
    providerOptions: { openai: options },
  });
  const { reasoning, temperature, input } = got;
  const sent = [JSON.stringify(reasoning) ?? "none", temperature ?? "none", input[0].role];
  const dropped = result.warnings.map((warning) => warning.feature).join(", ");
  console.log(`${name} ${forceReasoning ?? "unset"}: ${sent.join(" ")}; ${dropped}`);
}
server.close();
server.closeAllConnections();
JS
node "$folder/try.mjs" | tee "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
