"""The official SDK of Google for Python: whole, streamed, a round with a tool, a count, the models."""

import json
import sys

from google import genai
from google.genai import errors, types

base_url, api_key, model = sys.argv[1:4]
client = genai.Client(api_key=api_key, http_options=types.HttpOptions(base_url=base_url))
user = types.Content(role="user", parts=[types.Part(text="Say something.")])
config = types.GenerateContentConfig(max_output_tokens=500)

whole = client.models.generate_content(model=model, contents=[user], config=config)
streamed, output = "", 0
for chunk in client.models.generate_content_stream(model=model, contents=[user], config=config):
    streamed += chunk.text or ""
    usage = chunk.usage_metadata
    output = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)

schema = {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}
declared = types.FunctionDeclaration(name="exec_command", description="Runs a command.", parameters_json_schema=schema)
with_tool = types.GenerateContentConfig(max_output_tokens=500, tools=[types.Tool(function_declarations=[declared])])
asked = client.models.generate_content(model=model, contents=[user], config=with_tool)
use = asked.function_calls[0]
result = types.Part.from_function_response(name=use.name, response={"output": "hi"})
contents = [user, asked.candidates[0].content, types.Content(role="user", parts=[result])]
answered = client.models.generate_content(model=model, contents=contents, config=with_tool)

counted = client.models.count_tokens(model=model, contents=[user])
refused = ""
try:
    client.models.generate_content(model="nothing-like-it", contents=[user], config=config)
except errors.APIError as error:
    refused = f"{type(error).__name__} {error.code} {error.status}"
print(
    json.dumps(
        {
            "whole": whole.text,
            "streamed": streamed,
            "output": output,
            "tool": [use.name, use.args["cmd"], asked.candidates[0].finish_reason.value],
            "answered": answered.text,
            "counted": counted.total_tokens,
            "models": [listed.name.removeprefix("models/") for listed in client.models.list()],
            "refused": refused,
        }
    )
)
