"""The official SDK of Anthropic for Python: whole, streamed, a round with a tool, a count, the models."""

import json
import sys

import anthropic

base_url, api_key, model = sys.argv[1:4]
client = anthropic.Anthropic(base_url=base_url, api_key=api_key, max_retries=0)
user = {"role": "user", "content": "Say something."}
call = {"model": model, "max_tokens": 500, "messages": [user]}


def text(message):
    return "".join(block.text for block in message.content if block.type == "text")


def stream(**more):
    with client.messages.stream(**{**call, **more}) as running:
        for _event in running:
            pass
        return running.get_final_message()


whole = client.messages.create(**call)
streamed = stream()

schema = {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}
tools = [{"name": "exec_command", "description": "Runs a command.", "input_schema": schema}]
asked = stream(tools=tools)
use = next(block for block in asked.content if block.type == "tool_use")
content = [block.model_dump(include={"type", "id", "name", "input", "text"}, exclude_none=True) for block in asked.content]
result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "hi"}]}
answered = client.messages.create(
    model=model, max_tokens=500, tools=tools, messages=[user, {"role": "assistant", "content": content}, result]
)

counted = client.messages.count_tokens(model=model, messages=[user])
refused = ""
try:
    client.messages.create(**{**call, "model": "nothing-like-it"})
except anthropic.APIStatusError as error:
    refused = f"{type(error).__name__} {error.status_code} {error.body['error']['type']}"
print(
    json.dumps(
        {
            "whole": text(whole),
            "streamed": text(streamed),
            "output": streamed.usage.output_tokens,
            "tool": [use.name, use.input["cmd"], asked.stop_reason],
            "answered": text(answered),
            "counted": counted.input_tokens,
            "models": [listed.id for listed in client.models.list()],
            "refused": refused,
        }
    )
)
