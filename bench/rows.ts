import { handshakeCost } from './handshake-cost.ts';
import { latency, requests } from './http-requests.ts';
import { idleClients } from './idle-clients.ts';
import type { Protocol } from './peers.ts';
import type { Measure } from './round-robin.ts';
import { keptConnections, newConnections, secondWorker } from './second-worker.ts';
import { virtualHosts } from './virtual-hosts.ts';
import { webSocketEcho } from './websocket-echo.ts';

/** A line of the results: a kind of work, done by every peer in turn. */
export interface Row {
  title: string;
  protocol: Protocol;
  /** What is measured, by the name of the figure: its unit. */
  figures: Record<string, string>;
  goals: readonly Goal[];
  /** The floors that do the same work. */
  floors?: readonly string[];
  measure: Measure;
}

/** What Staplegate's figure shall be: at most or at least this, or this many times what a peer has. */
export interface Goal {
  figure: string;
  times?: string;
  most?: number;
  least?: number;
}

const kilobyte = 1024;
const megabyte = 1024 * kilobyte;
const perRequest = { cpu: 'µs of CPU per request', rate: 'requests/s' };
const perConnection = { cpu: 'µs of CPU per connection', stapled: 'of 1 with a staple' };
const twoWorkers = {
  speedup: '× the rate of one worker',
  cpu: '× the CPU per request or connection',
  fullest: 'of 64 connections made at once with one of the two, of 1',
  rate: 'in a second',
  busy: 'of the machine busy',
};
const cpu = (times: string, most: number): Goal => ({ figure: 'cpu', times, most });
const handshakeGoals = [cpu('nginx', 1.15), cpu('haproxy', 1), cpu('hitch', 1), cpu('caddy', 1)];

/** What a browser sends, about twenty fields with those of the client itself. */
const browserFields = [
  'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8',
  'Accept-Encoding: gzip, deflate, br, zstd',
  'Accept-Language: en-GB,en;q=0.8,de;q=0.5',
  'Cache-Control: max-age=0',
  'Cookie: session=0b2f6c1de94a4b0f8e5d6c7b8a9f0e1d2c3b4a5968778695a4b3c2d1e0f9a8b7; theme=dark; consent=2026-11-01; visitor=7f9c24e5-2d1b-4b0a-9a53-2f1c8e6d4b3a',
  'DNT: 1',
  'If-None-Match: "5f3a-61b9d2c4e8f00"',
  'Origin: https://bench.test',
  'Pragma: no-cache',
  'Priority: u=0, i',
  'Referer: https://bench.test/catalogue/shoes?size=43&colour=brown&page=2',
  'Sec-CH-UA: "Chromium";v="146", "Not)A;Brand";v="24"',
  'Sec-CH-UA-Mobile: ?0',
  'Sec-CH-UA-Platform: "Linux"',
  'Sec-Fetch-Dest: document',
  'Sec-Fetch-Mode: navigate',
  'Sec-Fetch-Site: same-origin',
  'Sec-Fetch-User: ?1',
  'User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/146.0.0.0 Safari/537.36',
];

export const rows: Record<string, Row> = {
  'h1-small': {
    title: 'HTTP/1.1 keep-alive, answers of 12 bytes',
    protocol: 'h1',
    figures: perRequest,
    goals: [cpu('nginx', 1), cpu('nginx', 1.2), cpu('caddy', 0.35)],
    floors: ['floor-answer', 'floor-relay'],
    measure: requests({ path: '/small', clients: 32 }),
  },
  'h1-1k': {
    title: 'HTTP/1.1 keep-alive, answers of 1 KB',
    protocol: 'h1',
    figures: perRequest,
    goals: [cpu('nginx', 1), cpu('nginx', 1.2), cpu('caddy', 0.35)],
    floors: ['floor-relay'],
    measure: requests({ path: '/1k', clients: 32 }),
  },
  'h1-100k': {
    title: 'HTTP/1.1, answers of 100 KB',
    protocol: 'h1',
    figures: perRequest,
    goals: [cpu('nginx', 1.1)],
    floors: ['floor-relay'],
    measure: requests({ path: '/100k', clients: 32 }),
  },
  'h1-10m': {
    title: 'HTTP/1.1, answers of 10 MB',
    protocol: 'h1',
    figures: perRequest,
    goals: [cpu('nginx', 1.1)],
    floors: ['floor-relay'],
    measure: requests({ path: '/10m', clients: 4 }),
  },
  'h1-upload': {
    title: 'HTTP/1.1, uploads of 100 MB',
    protocol: 'h1',
    figures: perRequest,
    goals: [cpu('nginx', 1.1)],
    floors: ['floor-relay'],
    measure: requests({ path: '/upload', clients: 2, upload: 100 * megabyte }),
  },
  'h1-fields': {
    title: 'HTTP/1.1, 20 request and 20 response fields',
    protocol: 'h1',
    figures: perRequest,
    goals: [cpu('nginx', 1.3)],
    floors: ['floor-relay'],
    measure: requests({ path: '/fields', clients: 32, fields: browserFields }),
  },
  'h2-small': {
    title: 'HTTP/2, 32 connections × 4 streams, answers of 12 bytes',
    protocol: 'h2',
    figures: perRequest,
    goals: [cpu('nginx', 1.8), cpu('caddy', 0.4)],
    measure: requests({ path: '/small', h2: true, clients: 32, streams: 4 }),
  },
  'h2-100k': {
    title: 'HTTP/2, 32 connections × 4 streams, answers of 100 KB',
    protocol: 'h2',
    figures: perRequest,
    goals: [cpu('nginx', 1.8), cpu('caddy', 0.4)],
    measure: requests({ path: '/100k', h2: true, clients: 32, streams: 4 }),
  },
  grpc: {
    title: 'HTTP/2 on both sides, 32 connections × 4 streams, answers of 12 bytes',
    protocol: 'grpc',
    figures: perRequest,
    goals: [cpu('nginx', 1), cpu('caddy', 0.35)],
    measure: requests({ path: '/small', h2: true, clients: 32, streams: 4 }, 'http2'),
  },
  websocket: {
    title: 'WebSocket, 100 connections, 32 bytes echoed',
    protocol: 'websocket',
    figures: { cpu: 'µs of CPU per message there and back', rate: 'messages/s' },
    goals: [cpu('nginx', 1.2)],
    floors: ['floor-relay'],
    measure: webSocketEcho(100),
  },
  latency: {
    title: 'Latency at half of the rate that nginx can serve, HTTP/1.1, 12 bytes',
    protocol: 'h1',
    figures: { p50: 'µs, median', p99: 'µs, 99th percentile', rate: 'requests/s' },
    goals: [
      { figure: 'p50', times: 'nginx', most: 1.3 },
      { figure: 'p99', times: 'nginx', most: 1.3 },
    ],
    measure: latency({ path: '/small', clients: 32 }),
  },
  memory: {
    title: 'Memory with 2,000 keep-alive clients',
    protocol: 'h1',
    figures: { kilobytes: 'KB per client', idle: 'MB without clients' },
    goals: [{ figure: 'kilobytes', most: 45 }],
    measure: idleClients(2_000),
  },
  workers: {
    title: 'Two workers against one, each with 0.1 of a core, HTTP/1.1, 12 bytes',
    protocol: 'h1',
    figures: twoWorkers,
    goals: [{ figure: 'speedup', least: 1.7 }],
    measure: secondWorker(keptConnections({ path: '/small' })),
  },
  'workers-handshake': {
    title: 'Two workers against one, each with 0.1 of a core, full handshakes',
    protocol: 'h1',
    figures: twoWorkers,
    goals: [{ figure: 'speedup', least: 1.7 }],
    measure: secondWorker(newConnections),
  },
  handshake: {
    title: 'Full TLS 1.3 handshake, ECDSA P-256',
    protocol: 'h1',
    figures: perConnection,
    goals: handshakeGoals,
    floors: ['floor-answer', 'floor-relay'],
    measure: handshakeCost({}),
  },
  'handshake-resumed': {
    title: 'Resumed TLS 1.3 handshake, ECDSA P-256',
    protocol: 'h1',
    figures: perConnection,
    goals: handshakeGoals,
    floors: ['floor-answer', 'floor-relay'],
    measure: handshakeCost({ resumed: true }),
  },
  'handshake-rsa': {
    title: 'Full TLS 1.3 handshake, RSA-2048',
    protocol: 'h1',
    figures: perConnection,
    goals: handshakeGoals,
    floors: ['floor-answer', 'floor-relay'],
    measure: handshakeCost({ keyType: 'rsa' }),
  },
  'virtual-hosts': {
    title: '10,000 virtual hosts',
    protocol: 'h1',
    figures: { seconds: 's to the first handshake', megabytes: 'MB before traffic', cold: 'µs of CPU, first handshake of a name', warm: 'µs of CPU, the next' },
    goals: [
      { figure: 'seconds', most: 3 },
      { figure: 'megabytes', most: 150 },
    ],
    measure: virtualHosts(10_000),
  },
};
