import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'node:test';
import { closedPort } from './support/backend.ts';
import { configOf } from './support/config.ts';
import { startFront } from './support/front.ts';
import { Http2Client, startHttp2Front } from './support/http2.ts';
import { startNginx } from './support/nginx.ts';
import { temporaryFolder } from './support/program.ts';
import { needs } from './support/tools.ts';

/** nginx as a backend that speaks HTTP/2 by prior knowledge. Its connections end, with GOAWAY, after a few requests. */

test('answers of every kind, while its connections come and go', { ...needs('nginx'), timeout: 60_000 }, async (t) => {
  await using scratch = await temporaryFolder();
  const folder = scratch.path;
  const url = await closedPort();
  const server = `server {
    listen ${new URL(url).host} http2; keepalive_requests 20; http2_max_concurrent_streams 5; client_max_body_size 0;
    location / { return 200 "$request_method $request_uri $http_host $http_x_forwarded_proto"; }
    location = /nothing { return 204; }
    location /static/ { alias ${folder}/nginx/www/; }
  }`;
  await using _ = await startNginx(folder, server);
  const file = Buffer.alloc(1_000_000, 'file ');
  await writeFile(path.join(folder, 'nginx/www/file'), file);
  const config = configOf({ routes: [{ path: '/', backends: [url], http_version: 2 }] });
  const front = await startHttp2Front(t, config);
  const client = await Http2Client.connect(t, front.port);
  const visits = Array.from({ length: 300 }, async (__, n) => {
    const one = await client.get(`/${n}`);
    assert.deepEqual([one.status, one.body], [200, `GET /${n} a.test https`], `${n}`);
    if (n % 10 > 0) return;
    assert.equal((await client.ask([':method', 'POST', ':path', `/post${n}`], Buffer.alloc(5_000))).body, `POST /post${n} a.test https`);
    const whole = await client.get('/static/file');
    assert.ok(Buffer.from(whole.body, 'latin1').equals(file));
    const head = await client.ask([':method', 'HEAD', ':path', '/static/file']);
    assert.deepEqual([head.status, head.headers['content-length'], head.body], [200, '1000000', '']);
    const same = await client.get('/static/file', 'if-none-match', String(whole.headers.etag));
    assert.equal(same.status, 304);
    assert.equal((await client.get('/nothing')).status, 204);
  });
  await Promise.all(visits);
  const old = await startFront(t, config);
  const two = await old.connect();
  for (let n = 0; n < 50; n += 1) {
    two.send(`POST /${n} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`);
    assert.equal((await two.answer()).body, `POST /${n} a.test https`);
  }
  const warned = [...front.log, ...old.log].filter(({ level }) => level !== 'debug' && level !== 'info');
  assert.deepEqual(warned, []);
});
