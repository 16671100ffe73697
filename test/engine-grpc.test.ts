import assert from 'node:assert/strict';
import test from 'node:test';
import { HpackDecoder } from '../src/http2/hpack-decoder.ts';
import { closedPort } from './support/backend.ts';
import { configOf, type Keys } from './support/config.ts';
import { startFront } from './support/front.ts';
import { grpcCalls, startGrpcServer } from './support/grpc.ts';
import { errorCodes, flags, frame, FrameClient, frameTypes, getHead, startHttp2Front } from './support/http2.ts';
import { FrameBackend } from './support/http2-backend.ts';
import { pythonPackage } from './support/python.ts';
import { needs } from './support/tools.ts';

/** A real gRPC client and a real gRPC server, and Staplegate between them. */

function route(url: string, top: Keys = {}): ReturnType<typeof configOf> {
  return configOf({ routes: [{ path: '/', backends: [url], http_version: 2 }] }, top);
}

const options = { ...needs(pythonPackage('grpc')), timeout: 60_000 };

test('gRPC calls of every kind pass', options, async (t) => {
  await using server = await startGrpcServer();
  const front = await startHttp2Front(t, route(server.url));
  const lines = await grpcCalls(
    front.port,
    `
answer, call = unary('Echo').with_call(b'hello', metadata=(('x-sent', 'me'),))
print(answer.decode(), dict(call.trailing_metadata()))
print(' '.join(one.decode() for one in stream('Count')(b'5')))
print(failure(lambda: unary('Fail')(b'')))
print(failure(lambda: unary('Unknown')(b'')))
large = b'x' * 20_000_000
print(unary('Echo')(large) == large)

# Each message is sent when the answer to the last has come: nothing is held back, in either direction.
said = threading.Semaphore(1)
def words():
    for word in (b'one', b'two', b'three'):
        said.acquire()
        yield word
for answer in both('Talk')(words()):
    print(answer.decode())
    said.release()
forever = threading.Event()
def endless():
    yield b'first'
    forever.wait(20)
print(failure(lambda: list(both('Late')(endless()))))
forever.set()
`,
  );
  assert.deepEqual(lines, [
    "hello {'x-seen': 'me'}",
    '0 1 2 3 4',
    "NOT_FOUND no such thing: ä {'x-why': 'because'}",
    'UNIMPLEMENTED Method not found! {}',
    'True',
    'ONE',
    'TWO',
    'THREE',
    'RESOURCE_EXHAUSTED enough {}',
  ]);
});

test('a call that its client cancels ends at the server', options, async (t) => {
  await using server = await startGrpcServer();
  const front = await startHttp2Front(t, route(server.url));
  const lines = await grpcCalls(
    front.port,
    `
call = stream('Wait')(b'')
print(next(call).decode())
call.cancel()
print(failure(lambda: list(stream('Wait')(b'', timeout=0.3))).split(' ')[0])
`,
  );
  assert.deepEqual(lines, ['begun', 'DEADLINE_EXCEEDED']);
  assert.equal(await server.line(), 'cancelled');
});

test('a server that is not there is UNAVAILABLE, and where there is another one nobody notices', options, async (t) => {
  const gone = await startHttp2Front(t, route(await closedPort()));
  const status = "print(failure(lambda: unary('Echo')(b'')).split(' ')[0])";
  assert.deepEqual(await grpcCalls(gone.port, status), ['UNAVAILABLE']);
  const servers = [await startGrpcServer(), await startGrpcServer()] as const;
  const front = await startHttp2Front(t, configOf({ routes: [{ path: '/', backends: servers.map(({ url }) => url), http_version: 2 }] }));
  const calls = "print(all(unary('Echo')(str(n).encode()) == str(n).encode() for n in range(20)))";
  try {
    assert.deepEqual(await grpcCalls(front.port, calls), ['True']);
  } finally {
    await servers[0][Symbol.asyncDispose]();
  }
  await using _ = servers[1];
  assert.deepEqual(await grpcCalls(front.port, calls), ['True'], 'the other one takes all');
});

test('streams of many little messages pass in both directions', options, async (t) => {
  await using server = await startGrpcServer();
  const front = await startHttp2Front(t, route(server.url));
  const lines = await grpcCalls(
    front.port,
    `
words = [str(n).encode() for n in range(10_000)]
print([one.decode() for one in both('Talk')(iter(words))] == [word.decode() for word in words])
print(len(list(stream('Count')(b'10000'))))
`,
  );
  assert.deepEqual(lines, ['True', '10000']);
});

test('the code with which a server breaks a call off is the one that its client sees', options, async (t) => {
  const head = [
    [':status', '200'],
    ['content-type', 'application/grpc'],
  ] as const;
  const codes: Record<string, number> = {
    '/test.Calls/Cancel': errorCodes.cancel,
    '/test.Calls/Calm': errorCodes.enhanceYourCalm,
    '/test.Calls/Refuse': errorCodes.refusedStream,
  };
  let asked = 0;
  const backend = await FrameBackend.listen(t, (connection, stream, path) => {
    asked += 1;
    connection.headers(stream, head, false);
    connection.send(frame(frameTypes.data, 0, stream, Buffer.from([0, 0, 0, 0, 1, 0x61])));
    connection.reset(stream, codes[path]);
  });
  const front = await startHttp2Front(t, route(backend.url));
  const lines = await grpcCalls(front.port, "for name in ('Cancel', 'Calm', 'Refuse'): print(failure(lambda: list(stream(name)(b''))).split(' ')[0])");
  assert.deepEqual(lines, ['CANCELLED', 'RESOURCE_EXHAUSTED', 'INTERNAL']);
  assert.equal(asked, 3, 'nothing is asked twice');
});

test('a head that says everything stays one frame, with nothing added but its date', options, async (t) => {
  const backend = await FrameBackend.listen(t, (connection, stream) =>
    connection.headers(stream, [
      [':status', '200'],
      ['content-type', 'application/grpc'],
      ['grpc-status', '5'],
    ]),
  );
  const front = await startHttp2Front(t, route(backend.url));
  const client = await FrameClient.connect(t, front.port);
  client.headers(1, getHead);
  const answer = await client.frame(({ type, stream }) => type === frameTypes.headers && stream === 1);
  assert.equal(answer.flags, flags.endHeaders | flags.endStream);
  const { fields } = new HpackDecoder().decode(answer.payload, 0, answer.payload.length, 65_536);
  assert.deepEqual(
    fields.map(({ name }) => name),
    [':status', 'content-type', 'grpc-status', 'date'],
  );
  // HTTP/1 has to say where it ends.
  const old = await startFront(t, route(backend.url));
  assert.match((await old.ask('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n')).head, /^Content-Length: 0$/m);
});
