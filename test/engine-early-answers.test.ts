import assert from 'node:assert/strict';
import { RawBackend, answering, closedPort, messages } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { both, startFront } from './support/front.ts';

/** Answers that come before the end of their request (RFC 9110, 10.1.1; RFC 9112, 9.3). */

function get(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: a.test\r\n\r\n`;
}

function post(path: string, fields: string): string {
  return `POST ${path} HTTP/1.1\r\nHost: a.test\r\n${fields}\r\n`;
}

/** Answers a POST as soon as its head is there, and a GET. */
function early(fields = ''): RawBackend {
  return new RawBackend((connection) => {
    if (!connection.text.includes('\r\n\r\n')) return;
    const isPost = connection.text.startsWith('POST');
    connection.text = '';
    connection.socket.write(isPost ? `HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n${fields}\r\nno` : 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  });
}

for (const [framing, begin, rest] of [
  ['Content-Length', post('/', 'Content-Length: 10\r\n'), '0123456789'],
  ['chunks', post('/', 'Transfer-Encoding: chunked\r\n'), 'a\r\n0123456789\r\n0\r\nX: y\r\n\r\n'],
] as const) {
  both(`behind an early answer the rest of a body by ${framing} is dropped, and the next request found`, async (t, engine) => {
    const backend = await early().listen(t);
    const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
    const client = await front.connect();
    for (const cut of [0, 1, 5, rest.length - 1]) {
      client.send(begin + rest.slice(0, cut));
      assert.equal((await client.answer()).status, 413);
      client.send(rest.slice(cut) + get('/next'));
      assert.equal((await client.answer()).body, 'ok', `cut at ${cut}`);
    }
    assert.equal(client.text, '');
  });
}

both('a connection on which the body of an answered request did not go out is not used again', async (t, engine) => {
  const backend = await early().listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  client.send(post('/', 'Content-Length: 10\r\n'));
  assert.equal((await client.answer()).status, 413);
  await backend.until(([first]) => first?.ended === true || first?.socket.destroyed === true);
  client.send(`0123456789${get('/next')}`);
  assert.equal((await client.answer()).body, 'ok');
  assert.equal(backend.connections.length, 2);
});

both('a body that the backend has not taken yet holds up nobody else', async (t, engine) => {
  // It answers at once and then reads no more, though it keeps the connection.
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.startsWith('POST')) {
      socket.pause();
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly');
    } else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const body = 'x'.repeat(9_000_000);
  const client = await front.connect();
  client.send(post('/', `Content-Length: ${body.length}\r\n`) + body);
  assert.equal((await client.answer()).body, 'early');
  assert.equal((await front.ask(get('/next'))).body, 'ok');
});

both('who waited for a 100 (Continue) and got an answer instead is not asked for more', async (t, engine) => {
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.endsWith('\r\n\r\n')) socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno');
  }).listen(t);
  const hosts = [
    [backend.url, 403],
    [await closedPort(), 502],
  ] as const;
  for (const [url, status] of hosts) {
    const front = await startFront(t, configOf({ engine, backends: [url] }));
    // Behind the head stands the next request, or the body: nobody can tell, so nothing is made of it.
    const text = await front.all(post('/', 'Expect: 100-continue\r\nContent-Length: 40\r\n'));
    assert.match(text, new RegExp(`^HTTP/1.1 ${status} `));
    assert.match(text, /^Connection: close\r$/m);
    const client = await front.connect();
    client.send(`${post('/', 'Expect: 100-continue\r\nContent-Length: 4\r\n')}b`);
    if (status === 502) assert.doesNotMatch((await client.answer()).head, /^Connection: close$/m, 'the body has begun');
    client.socket.destroy();
  }
});

both('what follows a refused 100-continue is never a request', async (t, engine) => {
  const backend = await answering().listen(t);
  const front = await startFront(t, configOf({ engine, routes: [{ path: '/api/', backends: [backend.url] }] }));
  const client = await front.connect();
  client.send(post('/', 'Expect: 100-continue\r\nContent-Length: 10\r\n'));
  const { status, head } = await client.answer();
  assert.equal(status, 404);
  assert.match(head, /^Connection: close$/m);
  client.send(get('/api/smuggled'));
  await client.toEnd();
  assert.equal(messages(backend.text).length, 0);
});
