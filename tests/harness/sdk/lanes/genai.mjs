// The official SDK of Google for TypeScript: whole, streamed, a round with a tool, a picture, JSON.
import { GoogleGenAI } from '@google/genai';

const [baseUrl, apiKey, model] = process.argv.slice(2);
const client = new GoogleGenAI({ apiKey, httpOptions: { baseUrl } });
const PICTURE = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const user = { role: 'user', parts: [{ text: 'Say something.' }] };
const config = { maxOutputTokens: 500 };
const ask = { model, contents: [user], config };
const strict = (name) => ({ type: 'object', properties: { [name]: { type: 'string' } }, required: [name] });

const whole = await client.models.generateContent(ask);
let streamed = '';
let [input, output] = [0, 0];
for await (const chunk of await client.models.generateContentStream(ask)) {
  streamed += chunk.text ?? '';
  const used = chunk.usageMetadata ?? {};
  output = (used.candidatesTokenCount ?? 0) + (used.thoughtsTokenCount ?? 0);
  input = used.promptTokenCount ?? 0;
}
const declared = { name: 'exec_command', description: 'Runs a command.', parametersJsonSchema: strict('cmd') };
const withTool = { ...config, tools: [{ functionDeclarations: [declared] }] };
const asked = await client.models.generateContent({ ...ask, config: withTool });
const use = asked.functionCalls[0];
const result = { role: 'user', parts: [{ functionResponse: { id: use.id, name: use.name, response: { output: 'hi' } } }] };
const contents = [user, asked.candidates[0].content, result];
const answered = await client.models.generateContent({ model, contents, config: withTool });
const picture = { role: 'user', parts: [{ text: 'What is it?' }, { inlineData: { mimeType: 'image/png', data: PICTURE } }] };
const seen = await client.models.generateContent({ ...ask, contents: [picture] });
const withSchema = { ...config, responseMimeType: 'application/json', responseJsonSchema: strict('colour') };
const json = await client.models.generateContent({ ...ask, config: withSchema });
console.log(JSON.stringify({
  whole: whole.text,
  streamed,
  output,
  input,
  id: whole.sdkHttpResponse.headers['x-request-id'],
  tool: [use.name, use.args.cmd],
  waits: asked.candidates[0].finishReason === 'STOP',
  answered: answered.text,
  seen: seen.text,
  json: JSON.parse(json.text),
}));
