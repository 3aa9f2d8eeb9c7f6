// The official SDK of Google for TypeScript: whole, streamed, a round with a tool, a count, the models.
import { GoogleGenAI } from '@google/genai';

const [baseUrl, apiKey, model] = process.argv.slice(2);
const client = new GoogleGenAI({ apiKey, httpOptions: { baseUrl } });
const user = { role: 'user', parts: [{ text: 'Say something.' }] };
const config = { maxOutputTokens: 500 };
const ask = { model, contents: [user], config };

const whole = await client.models.generateContent(ask);
let streamed = '';
let output = 0;
for await (const chunk of await client.models.generateContentStream(ask)) {
  streamed += chunk.text ?? '';
  output = (chunk.usageMetadata?.candidatesTokenCount ?? 0) + (chunk.usageMetadata?.thoughtsTokenCount ?? 0);
}

const schema = { type: 'object', properties: { cmd: { type: 'string' } }, required: ['cmd'] };
const declared = { name: 'exec_command', description: 'Runs a command.', parametersJsonSchema: schema };
const withTool = { ...config, tools: [{ functionDeclarations: [declared] }] };
const asked = await client.models.generateContent({ ...ask, config: withTool });
const use = asked.functionCalls[0];
const result = { role: 'user', parts: [{ functionResponse: { name: use.name, response: { output: 'hi' } } }] };
const contents = [user, asked.candidates[0].content, result];
const answered = await client.models.generateContent({ model, contents, config: withTool });

const counted = await client.models.countTokens({ model, contents: [user] });
const models = [];
for await (const listed of await client.models.list()) models.push(listed.name.replace('models/', ''));
let refused = '';
try {
  await client.models.generateContent({ ...ask, model: 'nothing-like-it' });
} catch (error) {
  refused = `${error.constructor.name} ${error.status} ${JSON.parse(error.message).error.status}`;
}
console.log(JSON.stringify({
  whole: whole.text,
  streamed,
  output,
  tool: [use.name, use.args.cmd, asked.candidates[0].finishReason],
  answered: answered.text,
  counted: counted.totalTokens,
  models,
  refused,
}));
