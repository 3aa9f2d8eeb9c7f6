"""Responses and a streamed chat with OpenAI's SDK for Python: pip install openai"""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("RELAY_URL", "http://127.0.0.1:8787") + "/v1",
    api_key=os.environ["RELAY_KEY"],
)
model = os.environ.get("RELAY_MODEL", "gpt-5-mini")

answer = client.responses.create(model=model, input="Say hello.")
print(answer.output_text)

stream = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "Say hello."}],
    stream=True,
)
for chunk in stream:
    for choice in chunk.choices:
        print(choice.delta.content or "", end="", flush=True)
print()
