"""LangChain: the usual chat model, with the budget in ``extra_body``.

pip install langchain-openai
python langchain_python.py
"""

import os

from langchain_openai import ChatOpenAI
from openai import OpenAI

QUESTION = "What is 12 * 12?"


def main() -> None:
    """Ask at two budgets and stream once; LangChain keeps the token counts of the reasoning."""
    base = os.environ.get("EXTRACOT_BASE_URL", "http://127.0.0.1:8000").rstrip("/")
    server = {
        "base_url": base.removesuffix("/v1") + "/v1",
        "api_key": os.environ.get("EXTRACOT_API_KEY", "not-needed"),
    }
    model = ChatOpenAI(
        **server,
        model=OpenAI(**server).models.list().data[0].id,
        extra_body={"budget": 0.2},
    )
    for budget, bound in ((0.2, model), ("native", model.bind(extra_body={"budget": "native"}))):
        reply = bound.invoke(QUESTION)
        reasoning = reply.usage_metadata["output_token_details"]["reasoning"]
        print(f"budget {budget}: {reasoning} reasoning tokens, {reply.content}")
    for chunk in model.stream(QUESTION):
        print(chunk.content, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
