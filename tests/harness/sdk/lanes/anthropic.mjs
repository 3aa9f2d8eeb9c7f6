// The official SDK of Anthropic for TypeScript: whole, streamed, a round with a tool, a picture, JSON.
import Anthropic from '@anthropic-ai/sdk';

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey, maxRetries: 0 });
const PICTURE = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const user = { role: 'user', content: 'Say something.' };
const call = { model, max_tokens: 500, messages: [user] };
const text = (message) => message.content.filter((block) => block.type === 'text').map((block) => block.text).join('');
const strict = (name) => ({ type: 'object', properties: { [name]: { type: 'string' } }, required: [name], additionalProperties: false });

const whole = await client.messages.create(call);
const streamed = await client.messages.stream(call).finalMessage();
const tools = [{ name: 'exec_command', description: 'Runs a command.', input_schema: strict('cmd') }];
const asked = await client.messages.stream({ ...call, tools }).finalMessage();
const use = asked.content.find((block) => block.type === 'tool_use');
const result = { role: 'user', content: [{ type: 'tool_result', tool_use_id: use.id, content: 'hi' }] };
const messages = [user, { role: 'assistant', content: asked.content }, result];
const answered = await client.messages.create({ ...call, tools, messages });
const source = { type: 'base64', media_type: 'image/png', data: PICTURE };
const content = [{ type: 'text', text: 'What is it?' }, { type: 'image', source }];
const seen = await client.messages.create({ ...call, messages: [{ role: 'user', content }] });
const format = { type: 'json_schema', schema: strict('colour') };
const json = await client.messages.create({ ...call, output_config: { format } });
console.log(JSON.stringify({
  whole: text(whole),
  streamed: text(streamed),
  output: streamed.usage.output_tokens,
  input: streamed.usage.input_tokens + streamed.usage.cache_read_input_tokens,
  id: whole._request_id,
  tool: [use.name, use.input.cmd],
  waits: asked.stop_reason === 'tool_use',
  answered: text(answered),
  seen: text(seen),
  json: JSON.parse(text(json)),
}));
