import type { Config, VirtualHost } from '../config/schema.ts';
import { networkMatcher } from '../config/networks.ts';
import type { Log } from '../log.ts';
import { challengeToken, readChallenge } from './acme-challenge.ts';
import type { ClientStream, Connection } from './client-stream.ts';
import type { Deadlines } from './deadlines.ts';
import type { Engine } from './engine.ts';
import { Exchange } from './exchange.ts';
import { forwardedFields, vouchingFields } from './forwarded.ts';
import { closingFields, field, FieldList, requestFields, type Field } from './headers.ts';
import { ProxyError } from './proxy-error.ts';
import { httpsPort, redirectLocation } from './redirect.ts';
import { type ProxiedConnection, proxyHeader } from './proxy-protocol.ts';
import type { RequestHead } from './request-head.ts';
import { RequestLog } from './request-log.ts';
import { Router, chooseRoute, forwardedTarget, type Site } from './router.ts';
import { Upstreams } from './upstream.ts';

export type Engines = Readonly<Record<VirtualHost['engine'], Engine>>;

/** One configuration, ready to answer from. */
interface Served {
  config: Config;
  router: Router;
  trusted: (address: string) => boolean;
  vouches: (key: string) => boolean;
  httpsPort: number;
}

/** Decides what becomes of each request: an answer of our own, or a backend. */
export class Handler {
  readonly #engines: Engines;
  readonly #log: Log;
  readonly #deadlines: Deadlines;
  readonly #upstreams = new Upstreams();
  #served: Served;

  constructor({ engines, log, deadlines, config }: { engines: Engines; log: Log; deadlines: Deadlines; config: Config }) {
    this.#engines = engines;
    this.#log = log;
    this.#deadlines = deadlines;
    this.#served = this.#serve(config);
  }

  /** Answers from a new configuration; exchanges under way finish with the old one. */
  update(config: Config): void {
    this.#served = this.#serve(config);
  }

  /** Begins to answer a request; what fails at once has its page when this returns. */
  begin(client: ClientStream, head: RequestHead): Exchange {
    const exchange = this.#exchange(client, head, `${head.method} ${head.host ?? ''}${head.target}`);
    try {
      this.#answer(exchange, client, head, this.#served);
    } catch (error) {
      exchange.refuse(error instanceof ProxyError ? error : new ProxyError('internal', (error as Error).message));
    }
    return exchange;
  }

  /** Answers what is not a proper request; `line` is what the log calls it. */
  reject(client: ClientStream, error: ProxyError, line: string): Exchange {
    const exchange = this.#exchange(client, undefined, line);
    exchange.refuse(error);
    return exchange;
  }

  #serve(config: Config): Served {
    return {
      config,
      router: new Router(config, this.#upstreams),
      trusted: networkMatcher(config.trustedProxies),
      vouches: vouchingFields(config),
      httpsPort: httpsPort(config.listen),
    };
  }

  #exchange(client: ClientStream, head: RequestHead | undefined, line: string): Exchange {
    const log = new RequestLog(this.#log, line, client.connection.clientAddress, this.#served.config.log.access);
    return new Exchange(client, head, log, this.#deadlines);
  }

  /** The way of a request, in order; whatever cannot go on is thrown as a ProxyError. */
  #answer(exchange: Exchange, client: ClientStream, head: RequestHead, served: Served): void {
    const { config, router } = served;
    const { connection } = client;
    if (connection.protocol === 'http') {
      const token = challengeToken(head.path);
      // Whose backends speak TLS answers challenges on https, where it has the certificate; validators follow (RFC 8555, 8.3).
      if (token === undefined || router.find(head.host)?.virtualHost.passthrough) return redirect(exchange, redirectLocation(router, head, served.httpsPort));
      if (config.acmeChallengeDir !== undefined) return void answerChallenge(exchange, config.acmeChallengeDir, token);
    }
    const site = connection.protocol === 'https' ? router.chosen(connection.virtualHost, head.host) : siteOf(router, head);
    // RFC 9110, 7.6.2: whoever gets Max-Forwards: 0 answers instead of forwarding.
    const hops = head.method === 'OPTIONS' ? maxForwards(head.fields) : undefined;
    if (hops === 0) return exchange.respond(200, 'OK', [field('Content-Length', '0')], Buffer.alloc(0));
    const route = chooseRoute(site, head.path);

    const { virtualHost } = site;
    const isOld = route.httpVersion === '1.0';
    const upgrade = head.webSocket && connection.protocol === 'https' && route.httpVersion === '1.1';
    const fields = backendFields(head, connection, site, served, upgrade, hops);
    // RFC 9110, 10.1.1: a backend that speaks HTTP/1.0 cannot say that the client may go on.
    if (isOld && head.facts.expectContinue) client.inform(100, []);
    const request = {
      method: head.method,
      target: forwardedTarget(route, head.target),
      fields: (isOld || !route.keepAlive) && !upgrade ? closingFields(fields, !isOld) : fields,
      framing: head.framing,
      mayHaveTrailers: head.version === '2',
      expectContinue: head.facts.expectContinue && !isOld,
      upgrade,
      route,
      timeouts: config.timeouts,
      prelude: route.proxyProtocol && proxyHeader(route.proxyProtocol, proxied(connection)),
      isRepeated: false,
    };
    // A stream of gRPC may have long pauses, and little to say.
    const bodyRate = route.httpVersion === '2' ? 0 : config.limits.requestBodyRate;
    exchange.forward(this.#engines[virtualHost.engine], route.pool, request, bodyRate);
  }
}

function proxied({ clientAddress, clientPort, localAddress, localPort, session, clientCertificate }: Connection): ProxiedConnection {
  const tls = session && { version: session.getProtocol() ?? '', cipher: session.getCipher()?.name ?? '' };
  return {
    source: { address: clientAddress, port: clientPort },
    destination: { address: localAddress, port: localPort },
    ...(tls && { tls: { ...tls, clientCertificate: clientCertificate?.verify === 'SUCCESS' } }),
  };
}

/** A request's fields as its backend gets them. */
function backendFields(head: RequestHead, connection: Connection, site: Site, served: Served, upgrade: boolean, hops: number | undefined): FieldList {
  const { facts } = head;
  // Nothing but these fields, the connection and the configuration decides, unless the method or the target has a say.
  const isUsual = !upgrade && hops === undefined && head.authority === facts.hostField;
  if (isUsual && facts.forwarded?.by === served) return facts.forwarded.fields;
  const authority = head.authority ?? site.virtualHost.serverName.replace(/^\*\./, '');
  const hosted = facts.hostField === undefined ? [field('Host', authority), ...head.fields] : head.fields;
  const counted = hops === undefined ? hosted : hosted.map((one) => (one.key === 'max-forwards' ? field(one.name, String(hops - 1)) : one));
  const origin = { clientAddress: connection.clientAddress, protocol: connection.protocol, port: connection.localPort, authority };
  const vouching = {
    trusted: served.trusted(connection.clientAddress),
    vouches: served.vouches,
    virtualHost: site.virtualHost,
    clientCertificate: connection.clientCertificate,
  };
  const fields = new FieldList(forwardedFields(requestFields(counted, upgrade), origin, vouching));
  if (isUsual) facts.forwarded = { by: served, fields };
  return fields;
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

function redirect(exchange: Exchange, location: string): void {
  exchange.respond(308, 'Permanent Redirect', [field('Location', location), field('Content-Length', '0')], Buffer.alloc(0));
}

async function answerChallenge(exchange: Exchange, folder: string, token: string): Promise<void> {
  try {
    const body = await readChallenge(folder, token);
    const fields = [field('Content-Type', 'text/plain'), field('Content-Length', String(body.length)), field('Cache-Control', 'no-store')];
    exchange.respond(200, 'OK', fields, body);
  } catch (error) {
    exchange.refuse(error as ProxyError);
  }
}
