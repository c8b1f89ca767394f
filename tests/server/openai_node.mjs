// The OpenAI SDK for JavaScript, unchanged, against the real app: run by test_openai_node.py.
//
// Servers come as EXTRACOT_OPEN, EXTRACOT_KEYED, EXTRACOT_SLOW and EXTRACOT_FAILING; the SDK is that
// of clients/examples.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";

const require = createRequire(process.env.EXTRACOT_EXAMPLES + "/package.json");
const OpenAI = require("openai");

const made = (name, more = {}) =>
  new OpenAI({ baseURL: process.env[name] + "/v1", apiKey: "none", maxRetries: 0, ...more });
const client = made("EXTRACOT_OPEN");
const model = "scripted";
const messages = [{ role: "user", content: "What is 12 * 3 + 4?" }];
const ask = (more = {}, options = {}) =>
  client.chat.completions.create({ model, messages, ...more }, options);
const schema = {
  type: "object",
  properties: { n: { type: "integer" } },
  required: ["n"],
  additionalProperties: false,
};
const format = { type: "json_schema", json_schema: { name: "n", strict: true, schema } };

test("models: list and retrieve", async () => {
  const names = [];
  for await (const entry of client.models.list()) names.push(entry.id);
  assert.equal(names[0], model);
  assert.ok(names.includes("scripted@auto"));
  assert.equal((await client.models.retrieve("scripted@0.4")).id, "scripted@0.4");
  await assert.rejects(client.models.retrieve("gpt-4o"), OpenAI.NotFoundError);
});

test("a reply with a budget", async () => {
  const reply = await ask({ budget: 0.2 });
  const { message, finish_reason } = reply.choices[0];
  assert.equal(reply.object, "chat.completion");
  assert.equal(finish_reason, "stop");
  assert.match(message.content, /boxed/);
  assert.equal(message.reasoning, message.reasoning_content);
  assert.equal(reply.budget.level, "0.2");
  const { usage } = reply;
  assert.equal(usage.completion_tokens_details.reasoning_tokens, reply.budget.reasoning_tokens);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
});

for (const [budget, level] of [[0.4, "0.4"], ["none", "none"], ["native", "native"],
  [{ ratio: 0.8, max_reasoning_tokens: 9 }, "0.8"]]) {
  test(`budget ${JSON.stringify(budget)}`, async () => {
    assert.equal((await ask({ budget })).budget.level, level);
  });
}

test("auto, by budget and by alias", async () => {
  const { budget } = await ask({ budget: "auto", seed: 3 });
  assert.ok(budget.chosen && budget.chosen_probability > 0);
  assert.equal((await ask({ model: "scripted@auto", seed: 3 })).budget.chosen, budget.chosen);
});

test("efforts", async () => {
  for (const [reasoning_effort, level] of [["none", "none"], ["minimal", "0.2"], ["low", "0.4"],
    ["medium", "0.6"], ["high", "0.8"], ["xhigh", "1.0"]]) {
    const { budget } = await ask({ reasoning_effort });
    assert.deepEqual([budget.level, budget.source], [level, "reasoning_effort"]);
  }
});

test("a stream says what the whole reply does", async () => {
  const whole = await ask({ budget: 0.2 });
  const stream = await ask({ budget: 0.2, stream: true, stream_options: { include_usage: true } });
  let content = "", reasoning = "", last;
  for await (const chunk of stream) {
    for (const { delta } of chunk.choices) {
      content += delta.content ?? "";
      reasoning += delta.reasoning ?? "";
    }
    last = chunk;
  }
  assert.equal(content, whole.choices[0].message.content);
  assert.equal(reasoning, whole.choices[0].message.reasoning);
  assert.deepEqual(last.usage, whole.usage);
  assert.deepEqual(last.budget, whole.budget);
});

test("a stream without usage, of several choices", async () => {
  const texts = ["", "", ""];
  const ends = [];
  for await (const chunk of await ask({ n: 3, seed: 5, stream: true })) {
    for (const choice of chunk.choices) {
      texts[choice.index] += choice.delta.content ?? "";
      if (choice.finish_reason) ends.push(choice.index);
    }
    assert.equal(chunk.usage ?? null, null);
  }
  assert.deepEqual(ends.sort(), [0, 1, 2]);
  const whole = await ask({ n: 3, seed: 5 });
  assert.deepEqual(texts, whole.choices.map((choice) => choice.message.content));
});

test("the stream helper", async () => {
  const runner = client.chat.completions.stream({ model, messages });
  let heard = "";
  runner.on("content", (delta) => { heard += delta; });
  const final = await runner.finalChatCompletion();
  assert.equal(heard, final.choices[0].message.content);
  assert.equal(await runner.finalContent(), heard);
});

test("json: a schema, parse(), json_object", async () => {
  const reply = await ask({ response_format: format, budget: 0.2 });
  assert.deepEqual(JSON.parse(reply.choices[0].message.content), { n: 0 });
  assert.ok(reply.choices[0].message.reasoning);
  const parsed = await client.chat.completions.parse({ model, messages, response_format: format });
  assert.equal(typeof parsed.choices[0].message.content, "string");
  const object = await ask({ response_format: { type: "json_object" } });
  assert.equal(typeof JSON.parse(object.choices[0].message.content), "object");
});

test("stop, limits, seeds", async () => {
  const stopped = await ask({ stop: ["is", "never"] });
  assert.equal(stopped.choices[0].message.content, "The answer ");
  assert.equal((await ask({ stop: "boxed" })).choices[0].finish_reason, "stop");
  const short = await ask({ max_completion_tokens: 12 });
  assert.ok(short.usage.completion_tokens <= 12 && short.choices[0].message.content);
  assert.equal((await ask({ max_tokens: 1 })).choices[0].finish_reason, "length");
  const once = await ask({ seed: 11 }), again = await ask({ seed: 11 }), other = await ask({ seed: 12 });
  assert.equal(once.choices[0].message.reasoning, again.choices[0].message.reasoning);
  assert.notEqual(once.choices[0].message.reasoning, other.choices[0].message.reasoning);
});

test("logprobs", async () => {
  const reply = await ask({ logprobs: true, top_logprobs: 3 });
  const rows = reply.choices[0].logprobs.content;
  assert.equal(rows.map((row) => row.token).join(""), reply.choices[0].message.content);
  assert.ok(rows.every((row) => row.logprob <= 0 && row.top_logprobs.length === 3));
});

test("sampling fields and those that ask for nothing", async () => {
  const reply = await ask({
    temperature: 0.7, top_p: 0.9, presence_penalty: 0.5, frequency_penalty: -0.5,
    logit_bias: { 999: -100 }, user: "u", metadata: { a: "b" }, store: false,
    modalities: ["text"], tools: [], tool_choice: "none", service_tier: "auto", top_k: 20,
  });
  assert.deepEqual(reply.budget.ignored_fields, ["modalities", "service_tier", "store"]);
});

test("conversations: developer, parts, earlier reasoning", async () => {
  const reply = await ask({
    messages: [
      { role: "developer", content: "Be brief." },
      { role: "user", content: [{ type: "text", text: "2 + " }, { type: "text", text: "2?" }] },
      { role: "assistant", content: "4", reasoning: "two and two", reasoning_content: "two and two" },
      ...messages,
    ],
    budget: 0.4,
  });
  assert.equal(reply.budget.calibrated, false);
  assert.deepEqual(reply.budget.ignored_fields, []);
});

test("hidden reasoning", async () => {
  const { choices, budget } = await ask({ include_reasoning: false });
  assert.ok(!("reasoning" in choices[0].message));
  assert.ok(budget.reasoning_tokens > 0);
});

test("the response behind a reply", async () => {
  const { data, response, request_id } = await ask({ budget: 0.2 }).withResponse();
  assert.equal(JSON.parse(response.headers.get("x-extracot-budget")).level, "0.2");
  assert.equal(request_id, response.headers.get("x-request-id"));
  assert.equal(data._request_id, request_id);
  const named = await ask({}, { headers: { "x-request-id": "mine-1" } });
  assert.match(named.id, /^chatcmpl-mine-1-[0-9a-f]{12}$/);
});

for (const [more, kind, param, code] of [
  [{ budget: 1.2 }, OpenAI.BadRequestError, "budget", "invalid_value"],
  [{ buget: 0.2 }, OpenAI.BadRequestError, "buget", "invalid_value"],
  [{ temperature: 9 }, OpenAI.BadRequestError, "temperature", "invalid_value"],
  [{ messages: [] }, OpenAI.BadRequestError, "messages", "invalid_value"],
  [{ audio: { voice: "x" } }, OpenAI.BadRequestError, "audio", "unsupported_parameter"],
  [{ model: "gpt-4o" }, OpenAI.NotFoundError, "model", "model_not_found"],
  [{ stream: true, budget: {} }, OpenAI.BadRequestError, "budget", "invalid_value"],
  [{ stream: true, model: "gpt-4o" }, OpenAI.NotFoundError, "model", "model_not_found"],
]) {
  test(`refused: ${JSON.stringify(more)}`, async () => {
    const error = await ask(more).then(() => null, (found) => found);
    assert.ok(error instanceof kind, String(error));
    assert.deepEqual([error.param, error.code], [param, code]);
    assert.ok(error.requestID);
  });
}

test("refused: too long, too large", async () => {
  const of = (content) => ({ messages: [{ role: "user", content }] });
  await assert.rejects(ask(of("apples ".repeat(9000))), (error) =>
    error instanceof OpenAI.BadRequestError && error.code === "context_length_exceeded");
  await assert.rejects(ask(of("x".repeat(5_000_000))), (error) => error.status === 413);
});

test("keys: none, wrong, right, too often", async () => {
  const body = { model, messages };
  const wrong = made("EXTRACOT_KEYED", { apiKey: "sk-wrong" });
  await assert.rejects(wrong.chat.completions.create(body), OpenAI.AuthenticationError);
  await assert.rejects(wrong.models.list(), OpenAI.AuthenticationError);
  const right = made("EXTRACOT_KEYED", { apiKey: "sk-right" });
  assert.equal((await right.chat.completions.create(body)).budget.level, "0.4");
  await assert.rejects(right.chat.completions.create(body), (error) =>
    error instanceof OpenAI.RateLimitError && Number(error.headers.get("retry-after")) >= 1);
});

test("a failing engine is a 503, and an error in a stream is thrown", async () => {
  const failing = made("EXTRACOT_FAILING");
  const stream = await failing.chat.completions.create({ model, messages, stream: true });
  await assert.rejects(async () => { for await (const _ of stream); }, OpenAI.APIError);
  const body = { model, messages };
  await assert.rejects(failing.chat.completions.create(body), OpenAI.InternalServerError);
});

test("leaving: abort, break, timeout", async () => {
  const slow = made("EXTRACOT_SLOW");
  const body = { model, messages };
  const stream = await slow.chat.completions.create({ ...body, stream: true });
  for await (const _ of stream) break;
  const controller = new AbortController();
  const waiting = slow.chat.completions.create(body, { signal: controller.signal });
  setTimeout(() => controller.abort(), 200);
  await assert.rejects(waiting, OpenAI.APIUserAbortError);
  await assert.rejects(
    slow.chat.completions.create(body, { timeout: 200 }), OpenAI.APIConnectionTimeoutError);
});

test("many at once do not mix", async () => {
  const of = (number) => ask({
    messages: [{ role: "user", content: `What is ${number} + ${number}?` }], budget: 0.2,
  }).then((reply) => reply.choices[0].message.content);
  const numbers = [...Array(16).keys()];
  const together = await Promise.all(numbers.map(of));
  for (const number of numbers) assert.equal(together[number], await of(number));
});
