import assert from 'node:assert/strict';
import { RawBackend } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { both, startFront } from './support/front.ts';

/** Interim answers (RFC 9110, 15.2) in their place, and elsewhere. */

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
const HINTS = 'HTTP/1.1 103 Early Hints\r\nLink: </x.css>\r\n\r\n';

function get(path = '/', fields = ''): string {
  return `GET ${path} HTTP/1.1\r\nHost: a.test\r\n${fields}\r\n`;
}

/** Answers /next properly, and everything else as told. */
function saying(text: string): RawBackend {
  return new RawBackend((connection) => {
    if (connection.text.endsWith('\r\n\r\n')) connection.socket.write(connection.text.includes('/next ') ? OK : text);
  });
}

const passed: Record<string, [said: string, heard: RegExp]> = {
  'a 100 that nobody asked for is not passed on': [`HTTP/1.1 100 Continue\r\n\r\n${OK}`, /^HTTP\/1.1 200 OK\r\n/],
  'a 102 and a 199 are not passed on': [`HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 199 Odd\r\nX: y\r\n\r\n${OK}`, /^HTTP\/1.1 200 OK\r\n/],
  'each 103 is passed on, without what belongs to the connection': [
    HINTS + HINTS.replace('\r\n\r\n', '\r\nConnection: X\r\nX: y\r\nContent-Length: 5\r\n\r\n') + OK,
    /^(HTTP\/1.1 103 Early Hints\r\nLink: <\/x.css>\r\n\r\n){2}HTTP\/1.1 200 OK\r\n/,
  ],
};

for (const [what, [said, heard]] of Object.entries(passed)) {
  both(what, async (t, engine) => {
    const backend = await saying(said).listen(t);
    const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
    assert.match(await front.all(get('/', 'Connection: close\r\n')), heard);
    assert.match(await front.all('GET / HTTP/1.0\r\nHost: a.test\r\n\r\n'), /^HTTP\/1.1 200 OK\r\n[^]*\r\n\r\nok$/, 'HTTP/1.0 knows none of them');
  });
}

for (const [what, interim] of [
  ['103', HINTS],
  ['102', 'HTTP/1.1 102 Processing\r\n\r\n'],
] as const) {
  both(`a backend that sends ${what} without end is a 502, and its connection ends`, async (t, engine) => {
    const backend = await new RawBackend(({ socket, text }) => {
      if (text.includes('/next ')) return void socket.write(OK);
      const feed = (): void => {
        while (!socket.destroyed && socket.write(interim.repeat(10)));
      };
      socket.on('drain', feed);
      feed();
    }).listen(t);
    const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
    const client = await front.connect();
    client.send(get());
    let answer = await client.answer();
    for (; answer.status === 103; answer = await client.answer());
    assert.equal(answer.status, 502);
    assert.equal((await front.logged('backend_bad_response')).facts['backend'], backend.url);
    await backend.until(([first]) => first?.socket.destroyed === true);
    client.send(get('/next'));
    assert.equal((await client.answer()).status, 200);
  });
}

both('an interim answer behind the final one is nobody’s', async (t, engine) => {
  for (const interim of [HINTS, 'HTTP/1.1 100 Continue\r\n\r\n', 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n']) {
    const backend = await saying(OK + interim).listen(t);
    const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
    const client = await front.connect();
    for (const path of ['/1', '/2', '/next']) {
      client.send(get(path));
      const { status, body } = await client.answer();
      assert.deepEqual([status, body, client.text], [200, 'ok', '']);
    }
  }
});

both('an interim answer with content is no interim answer', async (t, engine) => {
  const backend = await saying(`HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello${OK}`).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  assert.match(await front.all(get('/', 'Connection: close\r\n')), /HTTP\/1.1 502 /);
});

both('a 100 that comes late, or twice, does not disturb the body', async (t, engine) => {
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.endsWith('\r\n\r\n')) socket.write('HTTP/1.1 100 Continue\r\n\r\n');
    else if (text.endsWith('hel')) socket.write('HTTP/1.1 100 Continue\r\n\r\n');
    else if (text.endsWith('hello')) socket.write(OK);
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const client = await front.connect();
  client.send('PUT / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n');
  assert.equal((await client.answer()).status, 100);
  client.send('hel');
  let answer = engine === 'native' ? await client.answer() : undefined;
  if (answer) assert.equal(answer.status, 100);
  client.send('lo');
  for (answer = await client.answer(); answer.status === 100; answer = await client.answer());
  assert.deepEqual([answer.status, answer.body], [200, 'ok']);
});
