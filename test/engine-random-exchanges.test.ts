import assert from 'node:assert/strict';
import { setImmediate as immediate } from 'node:timers/promises';
import { Account } from './support/at-rest.ts';
import { firstMessage, RawBackend } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { both, type RawClient, startFront, type TestFront } from './support/front.ts';
import { seeded } from './support/random.ts';

/** Few connections to a backend carry the requests of many clients, both sides break off when they like, and nobody may get what is not his. */

interface Plan {
  name: string;
  method: string;
  framing: 'none' | 'length' | 'chunks';
  asks: number;
  /** The backend answers before it has the body. */
  isEarly: boolean;
  says: number;
  answer: 'length' | 'chunks' | 'end';
  /** Where the backend breaks off. */
  breaks: 'before' | 'head' | 'body' | undefined;
  closes: boolean;
  /** Where the client leaves. */
  leaves: 'head' | 'body' | 'answer' | undefined;
}

const SIZES = [0, 1, 300, 8_192, 8_193, 65_537, 120_000];
const CLIENTS = 16;
const VISITS = 40;

/** Says in every line whose it is, and which way it goes. */
const wordsOf = (what: string, length: number): string => Buffer.alloc(length, `${what}\n`).toString('latin1').slice(0, length);

class Script {
  readonly plans = new Map<string, Plan>();
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = seeded(seed);
  }

  chance(of: number): boolean {
    return this.#random() < of;
  }

  pick<T>(...values: readonly T[]): T {
    return values[Math.floor(this.#random() * values.length)]!;
  }

  plan(): Plan {
    const framing = this.pick('none', 'length', 'chunks');
    const plan: Plan = {
      name: `n${this.plans.size}`,
      method: this.pick('GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'FROB'),
      framing,
      asks: framing === 'none' ? 0 : this.pick(...SIZES),
      isEarly: this.chance(0.1),
      says: this.pick(...SIZES),
      answer: this.pick('length', 'chunks', 'end'),
      breaks: this.chance(0.15) ? this.pick('before', 'head', 'body') : undefined,
      closes: this.chance(0.1),
      leaves: this.chance(0.15) ? this.pick('head', 'body', 'answer') : undefined,
    };
    if (plan.breaks === 'body' && (plan.method === 'HEAD' || plan.says === 0)) plan.breaks = 'head';
    this.plans.set(plan.name, plan);
    return plan;
  }

  /** In chunks of any size, up to a hundred. */
  chunked(body: string): string {
    let text = '';
    for (let at = 0; at < body.length;) {
      const piece = body.slice(at, at + Math.max(1 + Math.floor(this.#random() * 5_000), body.length / 100));
      text += `${piece.length.toString(16)}\r\n${piece}\r\n`;
      at += piece.length;
    }
    return `${text}0\r\n\r\n`;
  }

  cut(text: string): string {
    return text.slice(0, Math.floor(this.#random() * (text.length - 1)));
  }

  request({ name, method, framing, asks, leaves }: Plan): string {
    const words = wordsOf(`asked by ${name}`, asks);
    const fields = { none: '', length: `Content-Length: ${asks}\r\n`, chunks: 'Transfer-Encoding: chunked\r\n' }[framing];
    const head = `${method} /${name} HTTP/1.1\r\nHost: a.test\r\n${fields}\r\n`;
    if (leaves === 'head') return this.cut(head);
    const body = framing === 'chunks' ? this.chunked(words) : words;
    return head + (leaves === 'body' ? this.cut(body) : body);
  }

  answer({ name, method, says, answer, breaks, closes }: Plan): string {
    const words = method === 'HEAD' ? '' : wordsOf(`said to ${name}`, says);
    const fields = { length: `Content-Length: ${says}\r\n`, chunks: 'Transfer-Encoding: chunked\r\n', end: '' }[answer];
    const head = `HTTP/1.1 200 OK\r\nX-Name: ${name}\r\n${fields}${closes ? 'Connection: close\r\n' : ''}\r\n`;
    if (breaks === 'before') return '';
    if (breaks === 'head') return this.cut(head);
    const body = answer === 'chunks' && method !== 'HEAD' ? this.chunked(words) : words;
    return head + (breaks === 'body' ? this.cut(body) : body);
  }
}

/** A backend that believes nobody. */
function backendOf(script: Script): { backend: RawBackend; arrived: string[] } {
  const arrived: string[] = [];
  const states = new WeakMap<object, { read: number; answered: string }>();
  const backend = new RawBackend((connection) => {
    const { socket } = connection;
    const state = states.get(connection) ?? { read: 0, answered: '' };
    states.set(connection, state);
    for (;;) {
      const text = connection.text.slice(state.read);
      const [, method, name] = /^(\S+) \/(n\d+) HTTP\/1\.1\r\n[^]*?\r\n\r\n/.exec(text) ?? [];
      const plan = script.plans.get(name ?? '');
      if (!plan) return assert.doesNotMatch(text, /\r\n\r\n/, 'what is no request');
      assert.equal(method, plan.method);
      const found = firstMessage(text);
      if (!found && (!plan.isEarly || state.answered === plan.name)) return;
      if (state.answered !== plan.name) {
        state.answered = plan.name;
        arrived.push(plan.name);
        socket.write(script.answer(plan), 'latin1');
        if (plan.breaks || plan.closes || (plan.answer === 'end' && plan.method !== 'HEAD')) {
          if (plan.breaks && plan.answer === 'end') socket.resetAndDestroy();
          else socket.end();
        }
      }
      if (!found) return;
      assert.equal(found.message.body, wordsOf(`asked by ${plan.name}`, plan.asks));
      state.read = connection.text.length - found.rest.length;
    }
  });
  return { backend, arrived };
}

/** Asks one thing after the other, and now and then several at once. */
async function visit(front: TestFront, script: Script): Promise<void> {
  const client = await front.connect();
  for (let round = 0; round < 4; round += 1) {
    const plans = Array.from({ length: script.pick(1, 1, 3) }, () => script.plan());
    const leaving = plans.findIndex(({ leaves }) => leaves);
    if (leaving !== -1) plans.splice(leaving + 1);
    const text = plans.map((plan) => script.request(plan)).join('');
    for (let at = 0; at < text.length && !client.closed;) {
      const piece = text.slice(at, at + script.pick(7, 3_000, 50_000, 400_000));
      client.send(piece);
      at += piece.length;
      if (script.chance(0.1)) await immediate();
    }
    for (const plan of plans) if (!(await hear(client, plan))) return void client.socket.destroy();
  }
  client.socket.destroy();
}

/** @returns whether the connection goes on */
async function hear(client: RawClient, plan: Plan): Promise<boolean> {
  const { name, method, says, breaks, leaves } = plan;
  if (leaves) return false;
  const isHead = method === 'HEAD';
  const answer = await client.answer(isHead).catch(() => undefined);
  const words = wordsOf(`said to ${name}`, isHead ? 0 : says);
  if (answer?.status === 502) {
    assert.ok(breaks, `${name}: a page without a reason`);
    // Its page is not sent with the head of an answer to HEAD.
    return !isHead && !/^connection: close$/im.test(answer.head) && !plan.isEarly;
  }
  if (!answer) {
    assert.ok(breaks, `${name}: cut without a reason`);
    return false;
  }
  assert.match(answer.head, new RegExp(`^x-name: ${name}$`, 'im'));
  assert.equal(answer.body, words);
  return !/^connection: close$/im.test(answer.head) && !plan.isEarly;
}

both('each request gets its own answer, whole, or is cut, and nothing is left behind', async (t, engine) => {
  const account = new Account(t);
  const script = new Script(20_261_122);
  const { backend, arrived } = backendOf(script);
  await backend.listen(t);
  const front = await startFront(t, configOf({ engine, routes: [{ path: '/', backends: [backend.url], max_connections: 4 }] }));
  await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      for (let n = 0; n < VISITS; n += 1) await visit(front, script);
    }),
  );
  // What a kept connection was lost with, before any byte of an answer, may be repeated.
  const once = arrived.filter((name) => !['before', 'head'].includes(script.plans.get(name)?.breaks ?? ''));
  assert.equal(new Set(once).size, once.length, 'no request comes twice');
  assert.ok(once.length > 1_000);
  assert.deepEqual(
    front.log.filter(({ level }) => level === 'error'),
    [],
  );
  await account.closed(front);
});
