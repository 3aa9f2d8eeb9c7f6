// Responses and a streamed chat with OpenAI's SDK for TypeScript: npm install openai tsx && npx tsx chat.ts
import OpenAI from 'openai';

const client = new OpenAI({
  baseURL: `${process.env.RELAY_URL ?? 'http://127.0.0.1:8787'}/v1`,
  apiKey: process.env.RELAY_KEY,
});
const model: string = process.env.RELAY_MODEL ?? 'gpt-5-mini';

const answer = await client.responses.create({ model, input: 'Say hello.' });
console.log(answer.output_text);

const stream = await client.chat.completions.create({
  model,
  messages: [{ role: 'user', content: 'Say hello.' }],
  stream: true,
});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? '');
console.log();
