// The AI SDK: two turns, a tool in the first. Run by test_ai_sdk.py.

import { createInterface } from "node:readline";

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, streamText, tool } from "ai";
import { z } from "zod";

const apiKey = "none";
const models = {
  compatible: (baseURL) =>
    createOpenAICompatible({ name: "scripted", baseURL, apiKey, includeUsage: true })("scripted"),
  chat: (baseURL) => createOpenAI({ baseURL, apiKey }).chat("scripted"),
  responses: (baseURL) => createOpenAI({ baseURL, apiKey })("scripted"),
  messages: (baseURL) => createAnthropic({ baseURL, apiKey })("scripted"),
};

function callOf(words) {
  return {
    model: models[words.model](`${words.url}/v1`),
    system: words.system,
    providerOptions: words.options,
    maxRetries: 0,
    stopWhen: isStepCount(3),
    tools: {
      get_weather: tool({
        description: "The weather in a city.",
        inputSchema: z.object({ city: z.literal("Bern") }),
        execute: async () => words.weather,
      }),
    },
  };
}

async function turn(call, stream, messages) {
  let pieces = 1;
  let result;
  if (stream) {
    result = streamText({ ...call, messages, onError: ({ error }) => { throw error; } });
    pieces = 0;
    for await (const _ of result.textStream) pieces += 1;
  } else {
    result = await generateText({ ...call, messages });
  }
  const steps = await result.steps;
  const parts = steps.flatMap((step) => step.content);
  const usage = await result.totalUsage;
  const seen = {
    text: await result.text,
    pieces,
    calls: parts.filter((p) => p.type === "tool-call").map((p) => [p.toolName, p.input]),
    results: parts.filter((p) => p.type === "tool-result").map((p) => p.output),
    reasoning: steps.map((step) => step.reasoningText ?? ""),
    usage: [usage.inputTokens, usage.outputTokens],
    reasoning_tokens: usage.outputTokenDetails?.reasoningTokens,
  };
  return [seen, [...messages, ...(await result.responseMessages)]];
}

for await (const line of createInterface({ input: process.stdin })) {
  const words = JSON.parse(line);
  const call = callOf(words);
  const [first, history] = await turn(call, words.stream, [{ role: "user", content: words.ask }]);
  const then = [...history, { role: "user", content: words.then }];
  const [second] = await turn(call, words.stream, then);
  console.log(JSON.stringify([first, second]));
}
