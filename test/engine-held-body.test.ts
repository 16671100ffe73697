import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import test from 'node:test';
import { HeldBody } from '../src/engine/held-body.ts';
import { FrameClient, frame, frameTypes, getHead } from './support/http2.ts';

/** A stream of node:http2 with a body that is being sent. */
async function begun(t: test.TestContext): Promise<{ client: FrameClient; stream: http2.ServerHttp2Stream }> {
  const server = http2.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const client = await FrameClient.connect(t, (server.address() as AddressInfo).port);
  client.headers(1, getHead, false);
  const [stream] = (await once(server, 'stream')) as [http2.ServerHttp2Stream];
  stream.on('error', () => {});
  return { client, stream };
}

/** Everything that was sent before has been read when the answer to a PING is there. */
async function settled(client: FrameClient, mark: string): Promise<void> {
  client.send(frame(frameTypes.ping, 0, 0, Buffer.from(mark.padEnd(8))));
  await client.frame(({ type, payload }) => type === frameTypes.ping && payload.toString().trim() === mark);
}

test('single bytes that nobody takes are held in few pieces, and come in order, before the end', async (t) => {
  const { client, stream } = await begun(t);
  const held = new HeldBody(stream);
  const got: Buffer[] = [];
  stream.on('data', (piece: Buffer) => {
    got.push(piece);
    held.hold();
  });
  client.data(1, '<', false);
  await settled(client, 'first');
  const bytes = Array.from({ length: 20_000 }, (_, n) => String.fromCharCode(97 + (n % 26)));
  for (const byte of bytes) client.data(1, byte, false);
  client.data(1, 'x'.repeat(5_000), false);
  client.data(1, '>', true);
  await settled(client, 'second');
  assert.equal(stream.readableLength, 0, 'node:http2 keeps nothing');
  const ended = once(stream, 'end');
  // One at a time, then all.
  held.release((piece) => {
    got.push(piece);
    return got.length > 2;
  });
  held.release((piece) => {
    got.push(piece);
    return true;
  });
  await ended;
  assert.equal(Buffer.concat(got).toString(), `<${bytes.join('')}${'x'.repeat(5_000)}>`);
  assert.ok(got.length < 10, `${got.length} pieces`);
});

test('what was held and taken makes room for more', async (t) => {
  const { client, stream } = await begun(t);
  const held = new HeldBody(stream);
  let received = 0;
  const take = (piece: Buffer): boolean => {
    received += piece.length;
    return false;
  };
  stream.on('data', (piece: Buffer) => {
    take(piece);
    held.hold();
  });
  // A flow-control window that is used up opens again only when the stream flows.
  for (let n = 0; n < 3; n += 1) {
    client.data(1, 'x'.repeat(10_000), false);
    client.data(1, 'x'.repeat(10_000), false);
    await settled(client, `round ${n}`);
    assert.equal(received, n * 20_000 + 10_000);
    held.release((piece) => {
      take(piece);
      return true;
    });
    await once(stream, 'resume');
    assert.equal(received, (n + 1) * 20_000);
  }
  const updates = client.frames.filter(({ type, stream: id }) => type === frameTypes.windowUpdate && id === 1);
  assert.ok(updates.length > 0);
});
