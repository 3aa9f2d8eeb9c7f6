// The official SDK of OpenAI for TypeScript, by either of its wires: whole, streamed, a round with a tool, a picture, JSON.
import OpenAI from 'openai';

const [base, apiKey, model, wire] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey, maxRetries: 0 });
const PICTURE = 'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const parameters = { type: 'object', properties: { cmd: { type: 'string' } }, required: ['cmd'], additionalProperties: false };
const schema = { type: 'object', properties: { colour: { type: 'string' } }, required: ['colour'], additionalProperties: false };

async function chat() {
  const user = { role: 'user', content: 'Say something.' };
  const call = { model, max_completion_tokens: 500, messages: [user] };
  const whole = await client.chat.completions.create(call);
  let streamed = '';
  let [input, output] = [0, 0];
  const stream = await client.chat.completions.create({ ...call, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) {
    streamed += chunk.choices[0]?.delta?.content ?? '';
    output = chunk.usage?.completion_tokens ?? output;
    input = chunk.usage?.prompt_tokens ?? input;
  }
  const tools = [{ type: 'function', function: { name: 'exec_command', description: 'Runs a command.', parameters } }];
  const asked = await client.chat.completions.stream({ ...call, tools }).finalChatCompletion();
  const message = asked.choices[0].message;
  const use = message.tool_calls[0];
  const result = { role: 'tool', tool_call_id: use.id, content: 'hi' };
  const answered = await client.chat.completions.create({ ...call, tools, messages: [user, message, result] });
  const picture = { role: 'user', content: [{ type: 'text', text: 'What is it?' }, { type: 'image_url', image_url: { url: PICTURE } }] };
  const seen = await client.chat.completions.create({ ...call, messages: [picture] });
  const response_format = { type: 'json_schema', json_schema: { name: 'answer', strict: true, schema } };
  const json = await client.chat.completions.create({ ...call, response_format });
  return {
    whole: whole.choices[0].message.content,
    streamed,
    output,
    input,
    id: whole._request_id,
    tool: [use.function.name, JSON.parse(use.function.arguments).cmd],
    waits: asked.choices[0].finish_reason === 'tool_calls',
    answered: answered.choices[0].message.content,
    seen: seen.choices[0].message.content,
    json: JSON.parse(json.choices[0].message.content),
  };
}

async function responses() {
  const call = { model, max_output_tokens: 500, input: 'Say something.' };
  const whole = await client.responses.create(call);
  let streamed = '';
  let ended;
  for await (const event of await client.responses.create({ ...call, stream: true })) {
    if (event.type === 'response.output_text.delta') streamed += event.delta;
    if (event.type === 'response.completed') ended = event.response;
  }
  const tools = [{ type: 'function', name: 'exec_command', description: 'Runs a command.', parameters, strict: true }];
  const asked = await client.responses.stream({ ...call, tools }).finalResponse();
  const use = asked.output.find((item) => item.type === 'function_call');
  const input = [
    { role: 'user', content: 'Say something.' },
    ...asked.output,
    { type: 'function_call_output', call_id: use.call_id, output: 'hi' },
  ];
  const answered = await client.responses.create({ ...call, tools, input });
  const content = [{ type: 'input_text', text: 'What is it?' }, { type: 'input_image', image_url: PICTURE, detail: 'auto' }];
  const seen = await client.responses.create({ ...call, input: [{ role: 'user', content }] });
  const format = { type: 'json_schema', name: 'answer', strict: true, schema };
  const json = await client.responses.create({ ...call, text: { format } });
  return {
    whole: whole.output_text,
    streamed,
    output: ended.usage.output_tokens,
    input: ended.usage.input_tokens,
    id: whole._request_id,
    tool: [use.name, JSON.parse(use.arguments).cmd],
    waits: asked.status === 'completed',
    answered: answered.output_text,
    seen: seen.output_text,
    json: JSON.parse(json.output_text),
  };
}

console.log(JSON.stringify(await (wire === 'chat' ? chat() : responses())));
