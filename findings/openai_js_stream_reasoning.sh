#!/usr/bin/env bash
# openai 7.59.0 (npm; it asks for Node 22, run here with 20): the reasoning of a streamed
# chat completion in the SDK's own helpers.
#
# vLLM sends reasoning as `reasoning` in the deltas of a stream, others as `reasoning_content`.
# `chat.completions.stream()` puts the deltas together; fields it does not know are kept, and one
# would guess that they are either added up, as its sibling for Python does with texts, or left out.
# Each delta replaces the one before it: the final message has the last piece of the reasoning, one
# token of thousands, under the name that holds all of it in a whole reply. It looks like reasoning,
# so who shows, stores or trains on `finalMessage()` does not see that it is not. `runTools` sends
# neither the piece nor the whole back with the calls, streamed or not. The chunks themselves have
# all of it: add them up.
#
# Seen (how it was asked: reasoning, reasoning_content, content):
#   create: ["first second third","first second third","ok"]
#   create, stream, added up by hand: ["first second third","first second third","ok"]
#   stream, finalMessage: [" third"," third","ok"]
#   stream, finalChatCompletion: [" third"," third","ok"]
#   runTools, sent back: role, content, tool_calls
#   runTools, stream, sent back: role, content, tool_calls
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
script=$(realpath "$0")
cd "$folder"
npm install --silent --no-audit --no-fund openai@7.59.0
cat > try.mjs <<'JS'
import http from "node:http";
import OpenAI from "openai";

const got = [];
const thoughts = ["first", " second", " third"];
const think = (text) => ({ reasoning: text, reasoning_content: text });
const call = { id: "c1", type: "function", function: { name: "f", arguments: "{}" } };

function pieces(asked) {
  const called = asked.tools && !asked.messages.some((message) => message.role === "tool");
  const end = called ? { tool_calls: [{ index: 0, ...call }] } : { content: "ok" };
  return [[{ role: "assistant" }, ...thoughts.map(think), end], called ? "tool_calls" : "stop"];
}

function whole(asked) {
  const [deltas, finish_reason] = pieces(asked);
  const { tool_calls, content = null } = deltas.at(-1);
  const message = { role: "assistant", content, ...think(thoughts.join("")) };
  if (tool_calls) message.tool_calls = [call];
  return { object: "chat.completion", choices: [{ index: 0, message, finish_reason }] };
}

function* chunks(asked) {
  const [deltas, end] = pieces(asked);
  for (const delta of deltas) yield { index: 0, delta, finish_reason: null };
  yield { index: 0, delta: {}, finish_reason: end };
}

const server = http.createServer((request, response) => {
  let text = "";
  request.on("data", (data) => (text += data));
  request.on("end", () => {
    const asked = JSON.parse(text);
    const base = { id: "r", model: "x", created: 1 };
    got.push(asked);
    response.setHeader("Content-Type", asked.stream ? "text/event-stream" : "application/json");
    if (!asked.stream) return response.end(JSON.stringify({ ...base, ...whole(asked) }));
    for (const choice of chunks(asked)) {
      const chunk = { ...base, object: "chat.completion.chunk", choices: [choice] };
      response.write(`data: ${JSON.stringify(chunk)}\n\n`);
    }
    response.end("data: [DONE]\n\n");
  });
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));

const show = (how, message) =>
  console.log(`${how}:`,
    JSON.stringify([message.reasoning, message.reasoning_content, message.content]));
const baseURL = `http://127.0.0.1:${server.address().port}`;
const chat = new OpenAI({ apiKey: "-", baseURL }).chat.completions;
const ask = { model: "x", messages: [{ role: "user", content: "u" }] };
show("create", (await chat.create(ask)).choices[0].message);
const sum = { reasoning: "", reasoning_content: "", content: "" };
for await (const chunk of await chat.create({ ...ask, stream: true })) {
  for (const name in sum) sum[name] += chunk.choices[0].delta[name] ?? "";
}
show("create, stream, added up by hand", sum);
const stream = chat.stream(ask);
show("stream, finalMessage", await stream.finalMessage());
show("stream, finalChatCompletion", (await stream.finalChatCompletion()).choices[0].message);
const parameters = { type: "object", properties: {} };
const tool = { name: "f", parameters, parse: JSON.parse, function: () => "7" };
for (const how of [{}, { stream: true }]) {
  const tools = [{ type: "function", function: tool }];
  await chat.runTools({ ...ask, ...how, tools }).finalContent();
  const back = Object.keys(got.at(-1).messages[1]).join(", ");
  console.log(`runTools${how.stream ? ", stream" : ""}, sent back:`, back);
}
server.close();
JS
node try.mjs > seen
cat seen
diff <(sed -n '/^# Seen/,/^set/s/^#   //p' "$script") seen
echo "as stated"
