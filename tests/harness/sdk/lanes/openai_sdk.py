"""The official SDK of OpenAI for Python, by either of its wires: whole, streamed, a round with a tool, a picture, JSON."""

import json
import sys

from openai import OpenAI

base_url, api_key, model, wire = sys.argv[1:5]
client = OpenAI(base_url=f"{base_url}/v1", api_key=api_key, max_retries=0)
PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def strict(name):
    return {"type": "object", "properties": {name: {"type": "string"}}, "required": [name], "additionalProperties": False}


def chat():
    user = {"role": "user", "content": "Say something."}
    create = client.chat.completions.create
    call = {"model": model, "max_completion_tokens": 500}
    whole = create(**call, messages=[user])
    streamed, output, used = "", 0, 0
    for chunk in create(**call, messages=[user], stream=True, stream_options={"include_usage": True}):
        if chunk.choices:
            streamed += chunk.choices[0].delta.content or ""
        if chunk.usage:
            output, used = chunk.usage.completion_tokens, chunk.usage.prompt_tokens
    function = {"name": "exec_command", "description": "Runs a command.", "parameters": strict("cmd")}
    tools = [{"type": "function", "function": function}]
    asked = create(**call, messages=[user], tools=tools)
    message = asked.choices[0].message
    use = message.tool_calls[0]
    result = {"role": "tool", "tool_call_id": use.id, "content": "hi"}
    answered = create(**call, messages=[user, message.model_dump(exclude_none=True), result], tools=tools)
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    seen = create(**call, messages=[{"role": "user", "content": content}])
    schema = {"name": "answer", "strict": True, "schema": strict("colour")}
    told = create(**call, messages=[user], response_format={"type": "json_schema", "json_schema": schema})
    return {
        "whole": whole.choices[0].message.content,
        "streamed": streamed,
        "output": output,
        "input": used,
        "id": whole._request_id,
        "tool": [use.function.name, json.loads(use.function.arguments)["cmd"]],
        "waits": asked.choices[0].finish_reason == "tool_calls",
        "answered": answered.choices[0].message.content,
        "seen": seen.choices[0].message.content,
        "json": json.loads(told.choices[0].message.content),
    }


def responses():
    create = client.responses.create
    call = {"model": model, "max_output_tokens": 500}
    whole = create(**call, input="Say something.")
    streamed, ended = "", None
    for event in create(**call, input="Say something.", stream=True):
        if event.type == "response.output_text.delta":
            streamed += event.delta
        if event.type == "response.completed":
            ended = event.response
    tool = {"type": "function", "name": "exec_command", "description": "Runs a command.", "strict": True}
    tools = [{**tool, "parameters": strict("cmd")}]
    asked = create(**call, input="Say something.", tools=tools)
    use = next(item for item in asked.output if item.type == "function_call")
    said = [item.model_dump(exclude_none=True) for item in asked.output]
    result = {"type": "function_call_output", "call_id": use.call_id, "output": "hi"}
    answered = create(**call, input=[{"role": "user", "content": "Say something."}, *said, result], tools=tools)
    content = [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": PICTURE, "detail": "auto"}]
    seen = create(**call, input=[{"role": "user", "content": content}])
    schema = {"type": "json_schema", "name": "answer", "strict": True, "schema": strict("colour")}
    told = create(**call, input="Say something.", text={"format": schema})
    return {
        "whole": whole.output_text,
        "streamed": streamed,
        "output": ended.usage.output_tokens,
        "input": ended.usage.input_tokens,
        "id": whole._request_id,
        "tool": [use.name, json.loads(use.arguments)["cmd"]],
        "waits": asked.status == "completed",
        "answered": answered.output_text,
        "seen": seen.output_text,
        "json": json.loads(told.output_text),
    }


print(json.dumps(chat() if wire == "chat" else responses()))
