"""The official SDK of Google for Python: whole, streamed, a round with a tool, a picture, JSON."""

import base64
import json
import sys

from google import genai
from google.genai import types

base_url, api_key, model = sys.argv[1:4]
client = genai.Client(api_key=api_key, http_options=types.HttpOptions(base_url=base_url))
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
user = types.Content(role="user", parts=[types.Part(text="Say something.")])


def strict(name):
    return {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}


def ask(contents, **more):
    config = types.GenerateContentConfig(max_output_tokens=500, **more)
    return client.models.generate_content(model=model, contents=contents, config=config)


whole = ask([user])
streamed, output, used = "", 0, 0
config = types.GenerateContentConfig(max_output_tokens=500)
for chunk in client.models.generate_content_stream(model=model, contents=[user], config=config):
    streamed += chunk.text or ""
    usage = chunk.usage_metadata
    if usage:
        output = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
        used = usage.prompt_token_count
declared = types.FunctionDeclaration(
    name="exec_command", description="Runs a command.", parameters_json_schema=strict("cmd")
)
tools = [types.Tool(function_declarations=[declared])]
asked = ask([user], tools=tools)
use = asked.function_calls[0]
result = types.Part(function_response=types.FunctionResponse(id=use.id, name=use.name, response={"output": "hi"}))
answered = ask([user, asked.candidates[0].content, types.Content(role="user", parts=[result])], tools=tools)
picture = types.Part.from_bytes(data=base64.b64decode(PICTURE), mime_type="image/png")
seen = ask([types.Content(role="user", parts=[types.Part(text="What is it?"), picture])])
told = ask([user], response_mime_type="application/json", response_json_schema=strict("colour"))
print(
    json.dumps(
        {
            "whole": whole.text,
            "streamed": streamed,
            "output": output,
            "input": used,
            "id": whole.sdk_http_response.headers["x-request-id"],
            "tool": [use.name, use.args["cmd"]],
            "waits": asked.candidates[0].finish_reason.value == "STOP",
            "answered": answered.text,
            "seen": seen.text,
            "json": json.loads(told.text),
        }
    )
)
