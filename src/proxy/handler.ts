import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Config } from '../config/schema.ts';
import { networkMatcher, unmapped } from '../config/networks.ts';
import type { Log } from '../log.ts';
import { challengeToken, readChallenge } from './acme-challenge.ts';
import { dispatch } from './dispatch.ts';
import type { BackendResponse, Engine } from './engine.ts';
import { forwardedFields } from './forwarded.ts';
import { field, rawFromFields, requestFields, responseFields, type Field } from './headers.ts';
import { ProxyError } from './proxy-error.ts';
import { httpsPort, redirectLocation } from './redirect.ts';
import { relay } from './relay.ts';
import { parseRequestHead, type RequestHead } from './request-head.ts';
import { headBytes, refuse, respond } from './respond.ts';
import { Router, chooseRoute, forwardedTarget, type Site } from './router.ts';
import { Upstreams } from './upstream.ts';

/** What is known of a client's connection before its first request. */
export interface Connection {
  clientAddress: string;
  clientPort: number;
  protocol: 'https' | 'http';
  localPort: number;
  /** `server_name` of the virtual host that the TLS handshake chose. */
  virtualHost: string | undefined;
}

/** One request and its answer. */
export interface Exchange {
  req: IncomingMessage;
  res: ServerResponse;
  connection: Connection;
  /** The client's connection, when it asked for a WebSocket; nothing has been read from it since. */
  upgrade: Duplex | undefined;
  /** The connection ends with this answer. */
  closing: () => boolean;
}

/** What the access log says of an exchange. */
interface Account {
  head?: RequestHead;
  backend?: string;
  status?: number;
  bytes: number;
}

/** One configuration, ready to answer from. */
interface Served {
  config: Config;
  router: Router;
  trusted: (address: string) => boolean;
  httpsPort: number;
}

export class Handler {
  readonly #engine: Engine;
  readonly #log: Log;
  readonly #upstreams = new Upstreams();
  #served: Served;

  constructor(engine: Engine, log: Log, config: Config) {
    this.#engine = engine;
    this.#log = log;
    this.#served = this.#serve(config);
  }

  /** Answers from a new configuration; exchanges under way finish with the old one. */
  update(config: Config): void {
    this.#served = this.#serve(config);
  }

  #serve(config: Config): Served {
    return { config, router: new Router(config, this.#upstreams), trusted: networkMatcher(config.trustedProxies), httpsPort: httpsPort(config.listen) };
  }

  /** Answers one request, whatever it takes; never rejects. Resolves when the answer is written or the client is cut. */
  async handle(exchange: Exchange): Promise<void> {
    const { req, res } = exchange;
    const started = performance.now();
    const account: Account = { bytes: 0 };
    const gone = new AbortController();
    res.once('close', () => gone.abort());
    try {
      await this.#answer(exchange, this.#served, account, gone.signal);
      account.status ??= res.statusCode;
    } catch (error) {
      const refusal = error instanceof ProxyError ? error : new ProxyError('internal', (error as Error).message);
      account.status = res.headersSent ? res.statusCode : refusal.status;
      this.#explain(refusal, exchange, account);
      if (res.headersSent || refusal.code === 'client_gone' || res.destroyed) res.destroy();
      else refuse(res, refusal, req.headers.accept, exchange.closing() || account.head === undefined || refusal.code === 'client_body_timeout');
    } finally {
      gone.abort();
    }
    if (this.#served.config.log.access) this.#logAccess(exchange, account, performance.now() - started);
  }

  /** The way of a request, in order; whatever cannot go on is thrown as a ProxyError. */
  async #answer(exchange: Exchange, served: Served, account: Account, signal: AbortSignal): Promise<void> {
    const { req, res, connection, upgrade, closing } = exchange;
    const { config, router } = served;
    const head = parseRequestHead(req.method ?? '', req.url ?? '', req.httpVersion, req.rawHeaders);
    account.head = head;

    if (connection.protocol === 'http') {
      const token = challengeToken(head.path);
      if (token === undefined) return redirect(res, redirectLocation(router, head, served.httpsPort));
      if (config.acmeChallengeDir !== undefined) return respondText(res, await readChallenge(config.acmeChallengeDir, token));
    }
    const site = connection.protocol === 'https' ? router.chosen(connection.virtualHost, head.host) : siteOf(router, head);
    // RFC 9110, 7.6.2: whoever gets Max-Forwards: 0 answers instead of forwarding.
    const hops = head.method === 'OPTIONS' ? maxForwards(head.fields) : undefined;
    if (hops === 0) return respond(res, 200, [field('Content-Length', '0')], Buffer.alloc(0));
    const route = chooseRoute(site, head.path);

    const authority = head.authority ?? site.virtualHost.serverName.replace(/^\*\./, '');
    const origin = { clientAddress: unmapped(connection.clientAddress), protocol: connection.protocol, port: connection.localPort, authority };
    const hosted: Field[] = head.fields.some(({ key }) => key === 'host') ? head.fields : [field('Host', authority), ...head.fields];
    const counted = hops === undefined ? hosted : hosted.map((one) => (one.key === 'max-forwards' ? field(one.name, String(hops - 1)) : one));
    const fields = forwardedFields(requestFields(counted, upgrade !== undefined), origin, served.trusted(connection.clientAddress));
    const request = {
      method: head.method,
      target: forwardedTarget(route, head.target),
      fields,
      framing: head.framing,
      body: req,
      expectContinue: head.expectContinue,
      upgrade: upgrade !== undefined,
      timeouts: config.timeouts,
      signal,
      onInformation: (status: number, hints: Field[]): void => relayInformation(res, head, status, hints),
    };

    using lease = await dispatch(this.#engine, route.pool, request, this.#log);
    account.backend = lease.upstream.address.name;
    if (lease.response.tunnel && upgrade) return await switchProtocols(exchange, lease.response, upgrade, config.timeouts.tunnel, account);
    const count = (bytes: number): void => {
      account.bytes += bytes;
    };
    await relay(lease.response, res, { head, idle: config.timeouts.responseBody, close: closing() || upgrade !== undefined, count });
  }

  #explain(refusal: ProxyError, { connection }: Exchange, { head, backend }: Account): void {
    const level = refusal.code === 'internal' ? 'error' : refusal.status >= 500 ? 'warn' : 'debug';
    this.#log[level](refusal.message, {
      code: refusal.code,
      backend,
      ...refusal.facts,
      client: connection.clientAddress,
      ...(head && { request: `${head.method} ${head.host ?? ''}${head.target}`.slice(0, 1024) }),
    });
  }

  #logAccess({ req, connection }: Exchange, { head, status, bytes, backend }: Account, duration: number): void {
    const target = head === undefined ? (req.url ?? '') : `${head.host ?? ''}${head.target}`;
    this.#log.info(`${req.method ?? '-'} ${target}`.slice(0, 1024), { status, bytes, ms: Math.round(duration), client: connection.clientAddress, backend });
  }
}

function siteOf(router: Router, head: RequestHead): Site {
  const site = router.find(head.host);
  if (!site) throw new ProxyError('unknown_host', `no virtual host is named ${head.host ?? '(none)'}`, { setting: 'virtual_hosts[].server_name' });
  return site;
}

function maxForwards(fields: readonly Field[]): number | undefined {
  const value = fields.find(({ key }) => key === 'max-forwards')?.value;
  return value !== undefined && /^\d{1,9}$/.test(value) ? Number(value) : undefined;
}

function redirect(res: ServerResponse, location: string): void {
  const fields = [field('Location', location), field('Content-Length', '0')];
  respond(res, 308, fields, Buffer.alloc(0));
}

function respondText(res: ServerResponse, body: Buffer): void {
  const fields = [field('Content-Type', 'text/plain'), field('Content-Length', String(body.length)), field('Cache-Control', 'no-store')];
  respond(res, 200, fields, body);
}

/** RFC 9110, 15.2: 100 to whoever waits for it, 103 to whoever may know it (RFC 8297), nothing to HTTP/1.0. */
function relayInformation(res: ServerResponse, head: RequestHead, status: number, fields: readonly Field[]): void {
  if (head.version === '1.0' || res.headersSent || res.destroyed) return;
  if (status === 100 && head.expectContinue) res.writeContinue();
  if (status === 103) res.writeInformation(103, rawFromFields(responseFields(103, fields)));
}

async function switchProtocols({ res }: Exchange, response: BackendResponse, client: Duplex, idle: number, account: Account): Promise<void> {
  const switching = [field('Connection', 'Upgrade'), field('Upgrade', 'websocket')];
  account.status = 101;
  client.write(headBytes(101, [...responseFields(204, response.fields), ...switching]));
  res.detachSocket(client as Parameters<ServerResponse['detachSocket']>[0]);
  const traffic = await response.tunnel?.join(client, idle);
  account.bytes = traffic?.sent ?? 0;
}
