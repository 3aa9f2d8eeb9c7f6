// The official SDK of Anthropic for TypeScript: whole, streamed, a round with a tool, a count, the models.
import Anthropic from '@anthropic-ai/sdk';

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey, maxRetries: 0 });
const user = { role: 'user', content: 'Say something.' };
const call = { model, max_tokens: 500, messages: [user] };
const text = (message) => message.content.filter((block) => block.type === 'text').map((block) => block.text).join('');

const whole = await client.messages.create(call);
const streamed = await client.messages.stream(call).finalMessage();

const schema = { type: 'object', properties: { cmd: { type: 'string' } }, required: ['cmd'] };
const tools = [{ name: 'exec_command', description: 'Runs a command.', input_schema: schema }];
const asked = await client.messages.stream({ ...call, tools }).finalMessage();
const use = asked.content.find((block) => block.type === 'tool_use');
const result = { role: 'user', content: [{ type: 'tool_result', tool_use_id: use.id, content: 'hi' }] };
const answered = await client.messages.create({
  ...call,
  tools,
  messages: [user, { role: 'assistant', content: asked.content }, result],
});

const counted = await client.messages.countTokens({ model, messages: [user] });
const models = [];
for await (const listed of client.models.list()) models.push(listed.id);
let refused = '';
try {
  await client.messages.create({ ...call, model: 'nothing-like-it' });
} catch (error) {
  refused = `${error.constructor.name} ${error.status} ${error.error.error.type}`;
}
console.log(JSON.stringify({
  whole: text(whole),
  streamed: text(streamed),
  output: streamed.usage.output_tokens,
  tool: [use.name, use.input.cmd, asked.stop_reason],
  answered: text(answered),
  counted: counted.input_tokens,
  models,
  refused,
}));
