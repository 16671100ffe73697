import { findHeadEnd, scanFieldLines, scanRequestLine } from '../src/engine/head.ts';
import { median } from './material.ts';

/** What reading a request head costs, from the bytes of a segment to its fields: `node bench/head-scan.ts`. */

const ROUNDS = 15;
const SCANS = 20_000;

const FEW = `Host: a.test
Accept: */*`;
const TEN = `Host: www.example.com
Connection: keep-alive
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8
Accept-Language: en-US,en;q=0.5
Accept-Encoding: gzip, deflate, br, zstd
Referer: https://www.example.com/index.html
Cookie: session=0123456789abcdef0123456789abcdef; theme=dark
Cache-Control: no-cache
Upgrade-Insecure-Requests: 1`;
const TWENTY = `${TEN.replace('theme=dark', `theme=dark; consent=${'0123456789'.repeat(42)}`)}
Authorization: Bearer ${'eyJhbGciOi'.repeat(20)}
If-None-Match: "0123456789abcdef"
If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT
Priority: u=0, i
Sec-Fetch-Dest: document
Sec-Fetch-Mode: navigate
Sec-Fetch-Site: same-origin
Sec-Fetch-User: ?1
X-Request-Id: f81d4fae-7dec-11d0-a765-00a0c91e6bf6
traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`;

for (const lines of [FEW, TEN, TWENTY]) {
  const head = `GET /some/path?of=realistic&length=1 HTTP/1.1\n${lines}\n\n`.replaceAll('\n', '\r\n');
  // In turn, as they would come: the same bytes again and again could stay in the nearest cache.
  const segments = Array.from({ length: 64 }, () => Buffer.from(head));
  const times = Array.from({ length: ROUNDS }, () => {
    const started = process.cpuUsage();
    for (let i = 0; i < SCANS; i += 1) {
      const segment = segments[i % segments.length]!;
      const end = findHeadEnd(segment, 0);
      const text = segment.toString('latin1', 0, end);
      const fields = scanFieldLines(text, scanRequestLine(text).next);
      if (fields.length < 2) throw new Error('not read');
    }
    const { user, system } = process.cpuUsage(started);
    return (user + system) / SCANS;
  });
  console.log(JSON.stringify({ bench: 'head-scan', fields: lines.split('\n').length, bytes: head.length, us: Number(median(times).toFixed(2)) }));
}
