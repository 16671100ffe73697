import assert from 'node:assert/strict';
import { RawBackend, type RawConnection, unaccepting } from './support/backend.ts';
import { Account } from './support/at-rest.ts';
import { configOf } from './support/config.ts';
import { both, type RawClient, startFront } from './support/front.ts';

/** Either side goes away, in each phase of an exchange, by FIN and by RST. */

const OK = 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok';

function get(path = '/', version = '1.1'): string {
  return `GET ${path} HTTP/${version}\r\nHost: a.test\r\n\r\n`;
}

function post(fields: string): string {
  return `POST /phase HTTP/1.1\r\nHost: a.test\r\n${fields}\r\n`;
}

/** Which of the phases below a backend has been asked for. */
function phaseOf(text: string): string {
  return decodeURIComponent(/\?(\S+)/.exec(text)?.[1] ?? '');
}

function withPhase(request: string, what: string): string {
  return request.replace('/phase', `/phase?${encodeURIComponent(what)}`);
}

const isGone = ({ ended, socket }: RawConnection): boolean => ended || socket.destroyed;

const requestPhases: Record<string, [sent: string, arrived: RegExp]> = {
  'in a body by Content-Length': [`${post('Content-Length: 10\r\n')}abc`, /\r\n\r\nabc$/],
  'in a body in chunks': [`${post('Transfer-Encoding: chunked\r\n')}3\r\nabc\r\n`, /\r\n\r\n3\r\nabc\r\n$/],
  'before its body': [post('Content-Length: 10\r\n'), /\r\n\r\n$/],
  'in a chunk size': [`${post('Transfer-Encoding: chunked\r\n')}3\r\nabc\r\n1`, /\r\n\r\n3\r\nabc\r\n$/],
  'while it waits for a 100 (Continue)': [post('Expect: 100-continue\r\nContent-Length: 10\r\n'), /\r\n\r\n$/],
  'while it waits for the answer': [get('/phase'), /\r\n\r\n$/],
  'with the next request on its way': [get('/phase') + get('/never'), /\r\n\r\n$/],
};

const answerPhases: Record<string, [said: string, heard: RegExp]> = {
  'behind an interim answer': ['HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n', /^HTTP\/1.1 103 [^]*\r\n\r\n$/],
  'in an answer by Content-Length': ['HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc', /\r\n\r\nabc$/],
  'in an answer in chunks': ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n', /\r\n\r\n3\r\nabc\r\n$/],
  'in an answer that ends with its connection': ['HTTP/1.1 200 OK\r\n\r\nabc', /\r\n\r\n3\r\nabc\r\n$/],
  'before the body of an answer': ['HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n', /\r\n\r\n$/],
};

const leaving = ['end', 'resetAndDestroy'] as const;

both('a client that leaves at any time takes its backend connection with it, and leaves nothing behind', async (t, engine) => {
  const account = new Account(t);
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.includes('/next ')) socket.write(OK);
    else if (text.endsWith('\r\n\r\n')) socket.write(answerPhases[phaseOf(text)]?.[0] ?? '');
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  const left = async (client: RawClient, what: string, how: (typeof leaving)[number]): Promise<void> => {
    client.socket[how]();
    await backend.until((connections) => connections.every(isGone));
    await account.settled(front);
    assert.equal(client.text.includes(' 502 '), false, what);
  };
  for (const how of leaving) {
    for (const [what, [sent, arrived]] of Object.entries(requestPhases)) {
      const count = backend.connections.length + 1;
      const client = await front.connect();
      client.send(sent);
      await backend.until((connections) => connections.length === count && arrived.test(connections.at(-1)?.text ?? ''));
      await left(client, what, how);
    }
    for (const [what, [, heard]] of Object.entries(answerPhases)) {
      const client = await front.connect();
      client.send(withPhase(get('/phase'), what));
      await client.until(() => heard.test(client.text));
      await left(client, what, how);
    }
  }
  assert.deepEqual(
    front.log.filter(({ level }) => level === 'error' || level === 'warn'),
    [],
    'that is nobody’s fault',
  );
  await account.closed(front);
});

both('a client that leaves before the backend has accepted the connection leaves nothing behind', async (t, engine) => {
  const account = new Account(t);
  const front = await startFront(t, configOf({ engine, backends: [await unaccepting(t)] }));
  for (const how of leaving) {
    for (const request of [get(), `${post('Content-Length: 10\r\n')}abc`.slice(0, -3), post('Transfer-Encoding: chunked\r\n')]) {
      const client = await front.connect();
      const before = front.front.open;
      client.send(request);
      assert.equal(before > 0, true);
      client.socket[how]();
      await account.settled(front);
    }
  }
  await account.closed(front);
});

both('a client that leaves between an early answer and the rest of its body leaves nothing behind', async (t, engine) => {
  const account = new Account(t);
  const backend = await new RawBackend(({ socket, text }) => {
    if (text.includes('\r\n\r\n')) socket.write('HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno');
  }).listen(t);
  const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
  for (const how of leaving) {
    for (const body of ['Content-Length: 10\r\n', 'Transfer-Encoding: chunked\r\n']) {
      const client = await front.connect();
      client.send(post(body));
      assert.equal((await client.answer()).status, 413);
      client.socket[how]();
      await account.settled(front);
      await backend.until((connections) => connections.every(isGone));
    }
  }
  await account.closed(front);
});

for (const how of leaving) {
  both(`a backend that leaves by ${how} in the middle of a request is a 502, and the client goes on`, async (t, engine) => {
    const account = new Account(t);
    const backend = await new RawBackend(({ socket, text }) => {
      if (text.includes('/next ')) socket.write(OK);
      else if (requestPhases[phaseOf(text)]?.[1].test(text)) socket[how]();
    }).listen(t);
    const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
    for (const [what, [sent]] of Object.entries(requestPhases)) {
      const client = await front.connect();
      client.send(withPhase(sent, what));
      assert.equal((await client.answer()).status, 502, what);
      client.socket.destroy();
      assert.equal((await front.ask(get('/next'))).status, 200);
      await account.settled(front);
    }
    assert.equal(backend.text.match(/^POST/gm)?.length, 5, 'no body goes out twice');
    assert.equal(backend.text.match(/\/phase\?/g)?.length, 7, 'and no request that a new connection was lost with');
    await account.closed(front);
  });

  both(`a backend that leaves by ${how} in the middle of an answer: the client is cut`, async (t, engine) => {
    const account = new Account(t);
    const backend = await new RawBackend(({ socket, text }) => {
      if (text.includes('/next ')) return void socket.write(OK);
      socket.write(answerPhases[phaseOf(text)]?.[0] ?? '', () => setImmediate(() => socket[how]()));
    }).listen(t);
    const front = await startFront(t, configOf({ engine, backends: [backend.url] }));
    for (const what of Object.keys(answerPhases)) {
      for (const version of ['1.0', '1.1']) {
        const client = await front.connect();
        client.send(withPhase(get('/phase', version), what).replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
        const text = await client.toEnd();
        const isWhole = how === 'end' && what === 'in an answer that ends with its connection';
        if (what === 'behind an interim answer') assert.match(text, /HTTP\/1.1 502 /);
        else if (isWhole) assert.match(text, version === '1.1' ? /abc\r\n0\r\n\r\n$/ : /abc$/);
        else if (version === '1.1') assert.doesNotMatch(text, /\r\n0\r\n\r\n$|<html/, what);
        else if (!what.includes('Content-Length') && !what.startsWith('before')) {
          // There is nothing else to tell this client that something is missing.
          while (!client.closed) await new Promise((resolve) => client.socket.once('close', resolve));
          assert.equal(client.reset, true, `${what} to HTTP/1.0`);
        }
        client.socket.destroy();
        assert.equal((await front.ask(get('/next'))).status, 200);
        await account.settled(front);
      }
    }
    await account.closed(front);
  });
}
