// The OpenAI SDK against a running server. YOKE_URL serves the real model "smollm2"; YOKE_FAKE_URL
// serves the fake engine as "chat" (which fails as its request says), "fragile" (which dies of every
// request) and "vectors".
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const model = "smollm2";
const question = [{ role: "user", content: "What is the capital of France? One word." }];
const short = { model, messages: question, temperature: 0, max_tokens: 16 };

function connect(url, apiKey = "none") {
  assert.ok(url, "YOKE_URL and YOKE_FAKE_URL have to be set");
  return new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0, timeout: 120_000 });
}

const yoke = connect(process.env.YOKE_URL);
const fake = connect(process.env.YOKE_FAKE_URL);

async function until(condition, what) {
  const deadline = Date.now() + 20_000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `still not: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function instance(url, name) {
  const { instances } = await (await fetch(`${url}/yoke/v1/instances`)).json();
  return instances.find((candidate) => candidate.model === name);
}

test("chat", async () => {
  const reply = await yoke.chat.completions.create(short);
  assert.match(reply.choices[0].message.content, /Paris/);
  assert.equal(reply.choices[0].finish_reason, "stop");
  assert.equal(reply.object, "chat.completion");
  assert.equal(reply.model, model);
  assert.ok(reply.usage.prompt_tokens > 0 && reply.usage.completion_tokens > 0);
});

test("chat, streaming", async () => {
  const stream = await yoke.chat.completions.create({
    ...short, stream: true, stream_options: { include_usage: true } });
  let text = "", chunks = 0, usage, reason;
  for await (const chunk of stream) {
    assert.equal(chunk.object, "chat.completion.chunk");
    text += chunk.choices[0]?.delta?.content ?? "";
    reason ??= chunk.choices[0]?.finish_reason ?? undefined;
    usage ??= chunk.usage ?? undefined;
    ++chunks;
  }
  assert.match(text, /Paris/);
  assert.equal(reason, "stop");
  assert.ok(chunks > 3, `it came in ${chunks} pieces`);
  assert.ok(usage.completion_tokens > 0);
});

test("streaming and not say the same", async () => {
  const whole = await yoke.chat.completions.create(short);
  const stream = yoke.chat.completions.stream(short);
  assert.equal(await stream.finalContent(), whole.choices[0].message.content);
});

test("completions", async () => {
  const body = { model, prompt: "The capital of France is", temperature: 0, max_tokens: 8 };
  const reply = await yoke.completions.create(body);
  assert.match(reply.choices[0].text, /Paris/);
  let text = "";
  for await (const chunk of await yoke.completions.create({ ...body, stream: true })) {
    text += chunk.choices[0].text;
  }
  assert.equal(text, reply.choices[0].text);
});

test("models", async () => {
  const models = [];
  for await (const each of yoke.models.list()) models.push(each.id);
  assert.deepEqual(models, [model]);
  const retrieved = await yoke.models.retrieve(model);
  assert.equal(retrieved.id, model);
  assert.equal(retrieved.object, "model");
});

test("embeddings", async () => {
  const reply = await fake.embeddings.create({
    model: "vectors", input: ["a", "b"], encoding_format: "float" });
  assert.equal(reply.data.length, 2);
  assert.ok(reply.data[1].embedding.every(Number.isFinite));
});

test("unknown model", async () => {
  for (const ask of [
    () => yoke.chat.completions.create({ ...short, model: "smolm2" }),
    () => yoke.chat.completions.create({ ...short, model: "smolm2", stream: true }),
    () => yoke.models.retrieve("smolm2"),
  ]) {
    await assert.rejects(ask, (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError, String(error));
      assert.equal(error.code, "model_not_found");
      assert.equal(error.type, "invalid_request_error");
      assert.match(error.message, /smolm2/);
      return true;
    });
  }
});

test("embeddings of a chat model", async () => {
  await assert.rejects(() => yoke.embeddings.create({ model, input: "a" }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError, String(error));
    assert.equal(error.code, "wrong_model_type");
    return true;
  });
});

test("abort within a stream", async () => {
  const stream = await yoke.chat.completions.create({
    model, messages: [{ role: "user", content: "Tell a very long story." }], max_tokens: 1500,
    stream: true });
  let chunks = 0;
  for await (const chunk of stream) {
    assert.ok(chunk.choices);
    if (++chunks === 5) stream.controller.abort();
  }
  assert.ok(chunks < 1000, "the stream went on");
  await until(async () => (await instance(process.env.YOKE_URL, model)).active_requests === 0,
              "the request has ended");
  assert.match((await yoke.chat.completions.create(short)).choices[0].message.content, /Paris/);
});

test("abort before the first token", async () => {
  const active = async () => (await instance(process.env.YOKE_FAKE_URL, "chat")).active_requests;
  const controller = new AbortController();
  const asking = fake.chat.completions.create(
    { model: "chat", messages: question, fake: "prefill_ms=60000" },
    { signal: controller.signal });
  const rejected = assert.rejects(asking, OpenAI.APIUserAbortError);
  await until(async () => (await active()) === 1, "the request runs");
  controller.abort();
  await rejected;
  await until(async () => (await active()) === 0, "the request has ended");
});

// The text of a stream and how it ended; `during` is called with the number of each piece of text.
async function read(stream, during = async () => {}) {
  let text = "", pieces = 0, reason, usage;
  const ids = new Set();
  for await (const chunk of stream) {
    ids.add(chunk.id);
    reason ??= chunk.choices[0]?.finish_reason ?? undefined;
    usage ??= chunk.usage ?? undefined;
    if (!chunk.choices[0]?.delta?.content) continue;
    text += chunk.choices[0].delta.content;
    await during(++pieces);
  }
  return { text, reason, usage, ids: ids.size };
}

test("engine that is killed within a stream", async () => {
  const ask = () => yoke.chat.completions.create({
    model, messages: [{ role: "user", content: "Tell me about the sea." }], temperature: 0,
    max_tokens: 30, stream: true, stream_options: { include_usage: true } });
  const uncut = await read(await ask());
  const { pid } = await instance(process.env.YOKE_URL, model);
  const cut = await read(await ask(), async (piece) => {
    if (piece === 7) process.kill(pid, "SIGKILL");
  });
  // Behind the seam it may take another turn; the fake engine's texts show that nothing is lost.
  assert.equal(cut.text.slice(0, 20), uncut.text.slice(0, 20));
  assert.equal(cut.ids, 1);
  assert.equal(cut.reason, "length");
  for (const count of ["prompt_tokens", "completion_tokens", "total_tokens"]) {
    assert.equal(cut.usage[count], uncut.usage[count], count);
  }
  assert.notEqual((await instance(process.env.YOKE_URL, model)).pid, pid);
});

test("engine on Vulkan that is killed within a stream", async () => {
  const url = process.env.YOKE_VULKAN_URL;
  const before = await instance(url, model);
  assert.equal(before.backend, "vulkan");
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
  const stream = await client.chat.completions.create({
    model, messages: [{ role: "user", content: "Tell me about the sea." }], temperature: 0,
    max_tokens: 20, stream: true, stream_options: { include_usage: true } });
  const reply = await read(stream, async (piece) => {
    if (piece === 5) process.kill(before.pid, "SIGKILL");
  });
  assert.equal(reply.ids, 1);
  assert.equal(reply.reason, "length");
  assert.equal(reply.usage.completion_tokens, 20);
  assert.equal((await instance(url, model)).backend, "cpu");
});

test("stream that can't go on elsewhere", async () => {
  const stream = await fake.chat.completions.create({
    model: "chat", messages: question, n: 2, stream: true, fake: "tokens=9;crash_after_tokens=4" });
  let chunks = 0;
  await assert.rejects(
    () => read(stream, async () => ++chunks),
    (error) => {
      assert.ok(error instanceof OpenAI.APIError, String(error));
      assert.equal(error.code, "cannot_continue");
      return true;
    });
  assert.equal(chunks, 4);
  const reply = await fake.chat.completions.create({ model: "chat", messages: question });
  assert.ok(reply.choices[0].message.content);
});

test("request that kills every engine", async () => {
  await assert.rejects(
    () => fake.chat.completions.create({ model: "fragile", messages: question, stream: true }),
    (error) => {
      assert.ok(error instanceof OpenAI.InternalServerError, String(error));
      assert.equal(error.status, 503);
      assert.equal(error.code, "engine_failed");
      return true;
    });
});
