import * as http from 'node:http';
import type { Readable } from 'node:stream';
import httpProxy from 'http-proxy';
import type { BackendAddress } from '../config/values.ts';
import type { BackendRequest, BackendStream, Engine, Recipient } from '../proxy/engine.ts';
import { type BackendFiles, type BackendTls, BackendTlsByRoute } from './backend-tls.ts';
import { ClientRequestStream } from './client-request.ts';
import { MAX_HEAD } from './head.ts';

/** Most applications close an idle connection after 5 s; a `Keep-Alive: timeout=` shorter than that is obeyed. */
const AGENT = { keepAlive: true, timeout: 4_000 };

/**
 * http-proxy 1.18.1, held so that it cannot do harm. As published, a GET with `Trailer:` kills the process, a DELETE
 * with a chunked body smuggles a request (http-party/node-http-proxy#1721), clients that leave leak backend sockets,
 * hop-by-hop fields pass and `//` collapses. So here it is never given the client's request or response: it gets a
 * description of what to send, opens the request, and hands it over through `buffer.pipe`. Of its passes only
 * `stream` is run, its answer handling and its `ws()` are not used at all.
 */
export class HttpProxyEngine implements Engine {
  readonly #agent = new http.Agent(AGENT);
  readonly #proxy = createProxy();
  readonly #tls = new BackendTlsByRoute();
  /** For `https://` backends, by their name. */
  readonly #tlsAgents = new Map<string, { tls: BackendTls; agent: http.Agent }>();

  update(files: BackendFiles): void {
    this.#tls.update(files);
    this.#tlsAgents.clear();
  }

  send(backend: BackendAddress, request: BackendRequest, recipient: Recipient): BackendStream {
    const where = 'socketPath' in backend ? { host: 'localhost', port: 80, socketPath: backend.socketPath } : { host: backend.host, port: backend.port };
    const agent = this.#agentFor(backend, request);
    if (request.isRepeated) dropIdle(agent, where);
    // Its way to a WebSocket is not used.
    const outgoing = request.upgrade ? http.request({ ...where, agent, method: request.method }) : this.#open(request.method, where, agent);
    completeHead(outgoing, request);
    return new ClientRequestStream(outgoing, backend, request, recipient, () => dropIdle(agent, where));
  }

  /** http-proxy asks for plain HTTP; that connections are TLS is the agent's affair. What is not kept has an agent, and a connection, of its own. */
  #agentFor(backend: BackendAddress, { upgrade, route }: BackendRequest): http.Agent {
    const isKept = !upgrade && route.keepAlive;
    if (!('tls' in backend)) return isKept ? this.#agent : new http.Agent();
    const tls = this.#tls.of(route);
    const known = this.#tlsAgents.get(backend.name);
    if (known?.tls === tls && isKept) return known.agent;
    const agent = new http.Agent(isKept ? AGENT : {});
    agent.createConnection = () => tls.connect(backend, 'http/1.1');
    if (isKept) this.#tlsAgents.set(backend.name, { tls, agent });
    return agent;
  }

  /** http-proxy opens the request, and hands it over at once. */
  #open(method: string, target: { host: string; port: number; socketPath?: string }, agent: http.Agent): http.ClientRequest {
    let opened: http.ClientRequest | undefined;
    const pipe = (outgoing: http.ClientRequest): void => {
      opened = outgoing;
    };
    // What http-proxy touches of a request and a response, and nothing more.
    const incoming = { method, url: '/', headers: {}, socket: { destroyed: false }, on: () => {} } as unknown as http.IncomingMessage;
    const options = { target, agent, buffer: { pipe } as unknown as Readable };
    // Its callers listen for errors themselves; without a callback here http-proxy would throw them.
    quietly(() => this.#proxy.web(incoming, { finished: true } as http.ServerResponse, options, () => {}));
    if (!opened) throw new Error('http-proxy did not open a request');
    return opened;
  }

  close(): void {
    this.#agent.destroy();
    for (const { agent } of this.#tlsAgents.values()) agent.destroy();
  }
}

/** A dead kept connection means a restarted backend: its siblings are as dead, and the retry must not find one. */
function dropIdle(agent: http.Agent, target: { host: string; port: number; socketPath?: string }): void {
  for (const socket of agent.freeSockets[agent.getName(target)] ?? []) socket.destroy();
}

interface Passes {
  webPasses: { name: string }[];
}

function createProxy(): httpProxy {
  const proxy = httpProxy.createProxyServer({ selfHandleResponse: true, toProxy: true, prependPath: false });
  const passes = proxy as unknown as Passes;
  passes.webPasses = passes.webPasses.filter(({ name }) => name === 'stream');
  proxy.on('error', () => {});
  return proxy;
}

/** http-proxy calls `util._extend`; Node's warning about that (DEP0060) would tell an administrator nothing. */
function quietly(deprecated: () => void): void {
  const before = process.noDeprecation === true;
  process.noDeprecation = true;
  try {
    deprecated();
  } finally {
    process.noDeprecation = before;
  }
}

/**
 * Sets the head: http-proxy would collapse `//` in the path, reverse the fields, merge those whose case differs, and send
 * the head too early where there is an `Expect`. Order and case are kept; repeated fields move up to the first of their name.
 */
function completeHead(outgoing: http.ClientRequest, request: BackendRequest): void {
  // Node has put it in upper case; a method in lower case is another method (RFC 9110, 9.1).
  outgoing.method = request.method;
  outgoing.path = request.target;
  // An option of http.request, which http-proxy does not pass on; Node's own bound is half of ours.
  Object.assign(outgoing, { maxHeaderSize: MAX_HEAD });
  // The fields say how the body is framed; where they do not, there is none (nodejs/node#27880).
  outgoing.useChunkedEncodingByDefault = false;
  outgoing.removeHeader('Host');
  for (const { name, value } of request.fields.list) outgoing.appendHeader(name, value);
  if (request.expectContinue) outgoing.appendHeader('Expect', '100-continue');
}
