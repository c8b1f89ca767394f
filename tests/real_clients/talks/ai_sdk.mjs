// The AI SDK: two turns, a tool in the first. Run by test_ai_sdk.py.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, streamText, tool } from "ai";
import { z } from "zod";

const words = JSON.parse(process.argv[2]);
const baseURL = `${words.url}/v1`;
const apiKey = "none";
const models = {
  compatible: () =>
    createOpenAICompatible({ name: "scripted", baseURL, apiKey, includeUsage: true })("scripted"),
  chat: () => createOpenAI({ baseURL, apiKey }).chat("scripted"),
  responses: () => createOpenAI({ baseURL, apiKey })("scripted"),
  messages: () => createAnthropic({ baseURL, apiKey })("scripted"),
};

const call = {
  model: models[words.model](),
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

async function turn(messages) {
  let pieces = 1;
  let result;
  if (words.stream) {
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
    warnings: steps.flatMap((step) => step.warnings ?? []),
  };
  return [seen, [...messages, ...(await result.responseMessages)]];
}

const [first, history] = await turn([{ role: "user", content: words.ask }]);
const [second] = await turn([...history, { role: "user", content: words.then }]);
console.log(JSON.stringify([first, second]));
