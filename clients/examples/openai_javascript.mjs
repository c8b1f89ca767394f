// The OpenAI SDK for JavaScript: `budget` is one more field of the body.
//
//     npm ci
//     node openai_javascript.mjs

import OpenAI from "openai";

const base = (process.env.EXTRACOT_BASE_URL ?? "http://127.0.0.1:8000").replace(/\/+$/, "");
const client = new OpenAI({
  baseURL: base.replace(/\/v1$/, "") + "/v1",
  apiKey: process.env.EXTRACOT_API_KEY ?? "not-needed",
});
const model = (await client.models.list()).data[0].id;
const messages = [{ role: "user", content: "What is 12 * 12?" }];

const reply = await client.chat.completions.create({ model, messages, budget: 0.2 });
console.log(reply.choices[0].message.content);
console.log("report:", JSON.stringify(reply.budget));

const stream = await client.chat.completions.create({
  model,
  messages,
  budget: 0.4,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  for (const { delta } of chunk.choices) {
    process.stdout.write(delta.reasoning ?? delta.content ?? "");
  }
  if (chunk.usage) {
    const { reasoning_tokens } = chunk.usage.completion_tokens_details;
    console.log(`\nreasoning tokens: ${reasoning_tokens}`);
  }
}
