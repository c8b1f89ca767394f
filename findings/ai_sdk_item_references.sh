#!/usr/bin/env bash
# @ai-sdk/openai 4.0.118 (ai 7.0.173), Node 20: what it sends of earlier answers.
#
# `generateText` gives back messages to be sent with the next question. One would guess that they go
# out as they came in. By default the provider sends the ids alone of earlier reasoning and text
# (`item_reference`), for the server to have kept them, while function calls are sent whole and
# without their ids: `store` was never set, yet a server that keeps nothing cannot read what was
# said before the call. With `store: false` the text is sent, without its id, and the reasoning is
# left out with a warning, unless the server gave `encrypted_content`; the request asks for that
# only where the model is taken for one that reasons (`forceReasoning`, or by its name).
#
# Seen (what the second request includes and, after the question, its input item by item):
#   default: include none
#   default: {"type":"item_reference","id":"rs_1"}
#   default: {"type":"item_reference","id":"msg_1"}
#   default: {"type":"function_call","call_id":"c1","name":"f","arguments":"{}"}
#   default: {"type":"function_call_output","call_id":"c1","output":"7"}
#   store false: include none
#   store false: {"role":"assistant","content":"Let me see."}
#   store false: {"type":"function_call","call_id":"c1","name":"f","arguments":"{}"}
#   store false: {"type":"function_call_output","call_id":"c1","output":"7"}
#   store false: warning: Reasoning parts without encrypted content are not supported when store is false. Skipping reasoning parts.
#   and forced: include ["reasoning.encrypted_content"]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --silent --no-audit --no-fund --prefix "$folder" \
  ai@7.0.173 @ai-sdk/openai@4.0.118 @ai-sdk/provider@4.0.38 @ai-sdk/provider-utils@5.0.81
cat > "$folder/try.mjs" <<'JS'
import { createServer } from "node:http";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, tool } from "ai";

globalThis.AI_SDK_LOG_WARNINGS = false; // they are read from the result
let got;
const content = [{ type: "output_text", text: "Let me see.", annotations: [] }];
const answer = JSON.stringify({
  id: "r", object: "response", created_at: 1, model: "x", status: "completed",
  output: [
    { type: "reasoning", id: "rs_1", summary: [{ type: "summary_text", text: "because" }] },
    { type: "message", id: "msg_1", role: "assistant", status: "completed", content },
    { type: "function_call", id: "fc_1", call_id: "c1", name: "f", arguments: "{}" },
  ],
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
const f = tool({ inputSchema: jsonSchema({ type: "object", properties: {} }), execute: () => "7" });
const ask = (messages, options) => generateText({
  model: openai("my-model"), messages, tools: { f }, providerOptions: { openai: options },
});
for (const [name, options] of [
  ["default", {}], ["store false", { store: false }],
  ["and forced", { store: false, forceReasoning: true }],
]) {
  const question = { role: "user", content: "u" };
  const first = await ask([question], options);
  const second = await ask([question, ...first.response.messages], options);
  console.log(`${name}: include ${JSON.stringify(got.include) ?? "none"}`);
  if (options.forceReasoning) break; // the rest is as before
  for (const item of got.input.slice(1)) console.log(`${name}: ${JSON.stringify(item)}`);
  for (const warning of second.warnings) console.log(`${name}: warning: ${warning.message}`);
}
server.close();
server.closeAllConnections();
JS
node "$folder/try.mjs" | tee "$folder/seen"
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$0") "$folder/seen"
echo "as stated"
