"""The official SDK of Anthropic for Python: whole, streamed, a round with a tool, a picture, JSON."""

import json
import sys

import anthropic

base_url, api_key, model = sys.argv[1:4]
client = anthropic.Anthropic(base_url=base_url, api_key=api_key, max_retries=0)
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
user = {"role": "user", "content": "Say something."}
call = {"model": model, "max_tokens": 500}


def text(message):
    return "".join(block.text for block in message.content if block.type == "text")


def strict(name):
    return {"type": "object", "properties": {name: {"type": "string"}}, "required": [name], "additionalProperties": False}


whole = client.messages.create(**call, messages=[user])
with client.messages.stream(**call, messages=[user]) as running:
    streamed = "".join(running.text_stream)
    used = running.get_final_message().usage
tools = [{"name": "exec_command", "description": "Runs a command.", "input_schema": strict("cmd")}]
asked = client.messages.create(**call, messages=[user], tools=tools)
use = next(block for block in asked.content if block.type == "tool_use")
result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "hi"}]}
said = {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in asked.content]}
answered = client.messages.create(**call, messages=[user, said, result], tools=tools)
source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
content = [{"type": "text", "text": "What is it?"}, {"type": "image", "source": source}]
seen = client.messages.create(**call, messages=[{"role": "user", "content": content}])
schema = {"format": {"type": "json_schema", "schema": strict("colour")}}
told = client.messages.create(**call, messages=[user], output_config=schema)
print(
    json.dumps(
        {
            "whole": text(whole),
            "streamed": streamed,
            "output": used.output_tokens,
            "input": used.input_tokens + used.cache_read_input_tokens,
            "id": whole._request_id,
            "tool": [use.name, use.input["cmd"]],
            "waits": asked.stop_reason == "tool_use",
            "answered": text(answered),
            "seen": text(seen),
            "json": json.loads(text(told)),
        }
    )
)
