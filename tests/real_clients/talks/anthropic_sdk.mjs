// Anthropic's SDK for JavaScript: its tool runner and its threads. Run by test_anthropic.py.

import { createInterface } from "node:readline";

import Anthropic from "@anthropic-ai/sdk";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { z } from "zod";

function turnOf(messages, results) {
  const blocks = messages.flatMap((message) => message.content);
  const of = (type) => blocks.filter((block) => block.type === type);
  const sum = (name) => messages.reduce((total, m) => total + m.usage[name], 0);
  const last = messages.at(-1).content.filter((block) => block.type === "text");
  return {
    text: last.map((block) => block.text).join(""),
    calls: of("tool_use").map((block) => [block.name, block.input]),
    results,
    reasoning: of("thinking").map((block) => block.thinking),
    usage: [sum("input_tokens"), sum("output_tokens")],
    reports: messages.map((message) => message.budget ?? null),
  };
}

async function runnerTurn(client, words, messages) {
  const results = [];
  const weather = betaZodTool({
    name: "get_weather",
    description: "The weather in a city.",
    inputSchema: z.object({ city: z.literal("Bern") }),
    run: async () => {
      results.push(words.weather);
      return words.weather;
    },
  });
  const runner = client.beta.messages.toolRunner({
    model: "scripted",
    max_tokens: 2048,
    system: words.system,
    messages,
    tools: [weather],
    stream: words.stream,
    ...words.body,
  });
  const replies = [];
  for await (const each of runner) {
    const reply = words.stream ? await each.finalMessage() : each;
    replies.push(reply);
    messages.push({ role: "assistant", content: reply.content });
    const answer = await runner.generateToolResponse();
    if (answer) messages.push(answer);
  }
  return turnOf(replies, results.slice(0, 1));
}

async function threadTurns(client, words) {
  const more = words.unsupported ? { unsupportedRequestBehavior: words.unsupported } : {};
  const thread = client.beta.messages.thread({
    model: "scripted",
    max_tokens: 2048,
    system: words.system,
    ...words.body,
    ...more,
  });
  try {
    const turns = [];
    for (const content of [words.ask, words.then]) {
      turns.push(turnOf([await thread.send([{ role: "user", content }])], []));
    }
    return turns;
  } catch (error) {
    return { status: error.status, kind: error.constructor.name };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const words = JSON.parse(line);
  const client = new Anthropic({ baseURL: words.url, apiKey: "none", maxRetries: 0 });
  if (words.way === "thread") {
    console.log(JSON.stringify(await threadTurns(client, words)));
    continue;
  }
  const messages = [{ role: "user", content: words.ask }];
  const first = await runnerTurn(client, words, messages);
  messages.push({ role: "user", content: words.then });
  console.log(JSON.stringify([first, await runnerTurn(client, words, messages)]));
}
