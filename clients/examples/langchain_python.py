"""LangChain: the usual chat model, with the budget in ``extra_body``.

``ChatOpenAI`` keeps OpenAI's fields and drops the rest, so the reasoning's text and the report
would be lost (the count of its tokens is not). Two methods bring them back, as other providers'
packages do; they are LangChain's own and may change with it (written for langchain-openai 1.7).

pip install langchain-openai
python langchain_python.py
"""

import os

from langchain_openai import ChatOpenAI
from openai import OpenAI

QUESTION = "What is 12 * 12?"


class ChatExtracot(ChatOpenAI):
    """``additional_kwargs["reasoning"]`` is the reasoning, ``response_metadata["budget"]`` the
    report, of whole replies and of streams (whose chunks add up)."""

    def _create_chat_result(self, response, generation_info=None):
        result = super()._create_chat_result(response, generation_info)
        body = response if isinstance(response, dict) else response.model_dump()
        for generation, choice in zip(result.generations, body["choices"], strict=True):
            message = generation.message
            message.additional_kwargs["reasoning"] = choice["message"].get("reasoning")
            message.response_metadata["budget"] = choice.get("budget")
        return result

    def _convert_chunk_to_generation_chunk(self, chunk, *arguments, **options):
        generation = super()._convert_chunk_to_generation_chunk(chunk, *arguments, **options)
        for choice in chunk.get("choices", ()):
            if reasoning := choice["delta"].get("reasoning"):
                generation.message.additional_kwargs["reasoning"] = reasoning
            if choice["finish_reason"] is not None:
                generation.message.response_metadata["budget"] = chunk.get("budget")
        return generation


def main() -> None:
    """Ask at two budgets and stream once."""
    base = os.environ.get("EXTRACOT_BASE_URL", "http://127.0.0.1:8000").rstrip("/")
    server = {
        "base_url": base.removesuffix("/v1") + "/v1",
        "api_key": os.environ.get("EXTRACOT_API_KEY", "not-needed"),
    }
    model = ChatExtracot(
        **server,
        model=OpenAI(**server).models.list().data[0].id,
        extra_body={"budget": 0.2},
    )
    for budget, bound in ((0.2, model), ("native", model.bind(extra_body={"budget": "native"}))):
        reply = bound.invoke(QUESTION)
        report = reply.response_metadata["budget"]
        print(f"budget {budget}: {report['reasoning_tokens']} reasoning tokens, {reply.content}")
        print("it began to reason:", reply.additional_kwargs["reasoning"][:40], "…")
    whole = None
    for chunk in model.stream(QUESTION):
        print(chunk.additional_kwargs.get("reasoning") or chunk.content, end="", flush=True)
        whole = chunk if whole is None else whole + chunk
    saved = whole.response_metadata["budget"]["saved_tokens_estimate"]
    print("\nsaved (None where it is not known):", saved)


if __name__ == "__main__":
    main()
