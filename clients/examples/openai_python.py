"""The OpenAI SDK for Python, unchanged but for ``extra_body={"budget": …}``.

pip install openai
python openai_python.py
"""

import os

from openai import OpenAI

QUESTION = [{"role": "user", "content": "What is 12 * 12?"}]


def main() -> None:
    """Ask once for a whole reply and once for a stream."""
    base = os.environ.get("EXTRACOT_BASE_URL", "http://127.0.0.1:8000").rstrip("/")
    client = OpenAI(
        base_url=base.removesuffix("/v1") + "/v1",
        api_key=os.environ.get("EXTRACOT_API_KEY", "not-needed"),
    )
    model = client.models.list().data[0].id

    reply = client.chat.completions.create(
        model=model, messages=QUESTION, extra_body={"budget": 0.2}
    )
    print(reply.choices[0].message.content)
    print("report:", reply.budget)

    stream = client.chat.completions.create(
        model=model,
        messages=QUESTION,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"budget": "native"},
    )
    for chunk in stream:
        for choice in chunk.choices:
            reasoning = getattr(choice.delta, "reasoning", None)
            print(reasoning or choice.delta.content or "", end="", flush=True)
        if chunk.usage is not None:
            print("\nreasoning tokens:", chunk.usage.completion_tokens_details.reasoning_tokens)


if __name__ == "__main__":
    main()
