import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import test, { type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Dice } from './fuzz/dice.ts';
import { requests } from './fuzz/grammar.ts';
import { closedPort, httpBackend } from './support/backend.ts';
import { HttpsClient } from './support/load.ts';
import { startNginx } from './support/nginx.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/**
 * Requests that are nearly right go through the real program to real applications: what these take for requests must be what
 * the program has forwarded, no more and no less (request smuggling).
 */

const tools = { ...needs('nginx', 'python3'), timeout: 90_000 };
const CASES = 300;

/** A Python application (HTTP/1.0, one request a connection) that notes each request line. */
const PYTHON = `
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def handle_one_request(self):
        self.raw_requestline = self.rfile.readline(65537)
        with open(sys.argv[2], 'ab') as seen:
            seen.write(self.raw_requestline.replace(b' HTTP/1.1\\r\\n', b'\\n'))
        if not self.parse_request(): return
        self.rfile.read(int(self.headers.get('Content-Length', 0)))
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
`;

interface Application {
  url: string;
  /** METHOD TARGET of every request that it has seen. */
  seen: () => string[];
}

function linesOf(file: string): string[] {
  return existsSync(file) ? readFileSync(file, 'latin1').split('\n').slice(0, -1) : [];
}

async function nginx(site: Site): Promise<Application> {
  const url = await closedPort();
  const file = site.file('nginx.seen');
  const server = `log_format seen escape=none '$request';
    server { listen ${new URL(url).host}; access_log ${file} seen; lingering_close off; location / { return 200 "ok"; } }`;
  await site.use(startNginx(site.folder, server));
  return { url, seen: () => linesOf(file).map((line) => line.replace(/ HTTP\/1\.1$/, '')) };
}

async function python(site: Site, t: TestContext): Promise<Application> {
  const url = await closedPort();
  const file = site.file('python.seen');
  await writeFile(site.file('server.py'), PYTHON);
  const child = spawn('python3', [site.file('server.py'), new URL(url).port, file], { stdio: 'ignore' });
  t.after(async () => {
    child.kill();
    if (child.exitCode === null) await once(child, 'exit');
  });
  const isThere = (): Promise<boolean> =>
    fetch(url).then(
      () => true,
      () => false,
    );
  while (!(await isThere())) await sleep(50);
  const before = linesOf(file).length;
  return { url, seen: () => linesOf(file).slice(before) };
}

async function node(t: TestContext): Promise<Application> {
  const seen: string[] = [];
  const { url, server } = await httpBackend(t, (req, res) => {
    seen.push(`${req.method} ${req.url}`);
    req.resume();
    res.end('ok');
  });
  // Node does not know every method; what it refuses it has seen all the same.
  server.on('clientError', (error: Error & { rawPacket?: Buffer }, socket) => {
    const line = /^(.*) HTTP\/1.1\r\n/.exec(error.rawPacket?.toString('latin1') ?? '')?.[1];
    if (line !== undefined) seen.push(line);
    socket.destroy();
  });
  return { url, seen: () => seen };
}

function count(lines: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const line of lines) counts.set(line, (counts.get(line) ?? 0) + 1);
  return counts;
}

for (const engine of ['native', 'http-proxy'] as const) {
  test(`applications see the requests that were forwarded, and nothing else (${engine})`, tools, async (t) => {
    const site = await Site.create(t);
    const applications = { 'n.test': await nginx(site), 'o.test': await node(t), 'p.test': await python(site, t) };
    const names = Object.keys(applications);
    const certificates = [await site.write('all', await site.issue('', { names }))];
    const program = await site.serving({
      log: { access: true },
      timeouts: { request_header: '200ms', request_body: '200ms' },
      virtual_hosts: Object.entries(applications).map(([name, { url }]) => ({ server_name: name, certificates, engine, backends: [url] })),
    });
    const target = (name: string) => ({ port: program.port(), name, ca: site.root.pem });

    const client = async (name: string, first: number): Promise<void> => {
      for (let number = first; number < CASES; number += 4) {
        const dice = new Dice(number);
        // Names of the same length, so that lengths stay what they are.
        const text = `${requests(dice).replaceAll('a.test', name)}GET /end/${number} HTTP/1.1\r\nHost: ${name}\r\nConnection: close\r\n\r\n`;
        const { raw } = await HttpsClient.connect(target(name));
        raw.socket.on('error', () => {});
        for (const piece of dice.cut(text)) raw.send(piece);
        await raw.toEnd();
        raw.socket.destroy();
      }
    };
    await Promise.all(names.flatMap((name) => [0, 1, 2, 3].map((first) => client(name, first))));

    for (const [name, { url, seen }] of Object.entries(applications)) {
      const look = (): { answered: number; wrong: string[] } => {
        const forwarded = program.log.flatMap((line) => {
          const [, method, path, status, backend] = / info +(\S+) (?:[a-z]\.test)?(\S+) status=(\d+) .* backend=(\S+)/.exec(line) ?? [];
          return backend === url ? [{ line: `${method} ${path}`, isAnswered: status === '200' }] : [];
        });
        const answered = forwarded.filter(({ isAnswered }) => isAnswered);
        // What was broken off may have been seen or not.
        const [most, least, there] = [count(forwarded.map(({ line }) => line)), count(answered.map(({ line }) => line)), count(seen())];
        const wrong = [...new Set([...there.keys(), ...least.keys()])].flatMap((line) => {
          const [low, times, high] = [least.get(line) ?? 0, there.get(line) ?? 0, most.get(line) ?? 0];
          return low <= times && times <= high ? [] : [`${JSON.stringify(line)} seen ${times} times, forwarded ${high}, answered ${low}`];
        });
        return { answered: answered.length, wrong };
      };
      // Logs are written when a request is over: a moment later than its answer.
      for (let n = 0; n < 100 && look().wrong.length > 0; n += 1) await sleep(50);
      const { answered, wrong } = look();
      assert.deepEqual(wrong, [], name);
      assert.ok(answered > CASES / 2, `${answered} answers from ${name}`);
    }
  });
}
