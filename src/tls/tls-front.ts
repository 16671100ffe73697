import type { Socket } from 'node:net';
import type { ConnectionCounters } from '../connection-counters.ts';
import type { VirtualHost } from '../config/schema.ts';
import type { Log } from '../log.ts';
import type { Identity, ServableStaple, Snapshot } from '../snapshot.ts';
import { Alert, TlsAlert } from './alert.ts';
import type { Arrival, Peer } from './arrival.ts';
import { readClientHello, type ClientHello } from './client-hello.ts';
import { clientRules } from './client-rules.ts';
import { Handshakes, type SecureConnection } from './handshakes.ts';
import { allowsHttp2 } from './key-choice.ts';
import { looksLikeHttp, PlainHttp } from './plain-http.ts';
import { readPrefix } from './read-prefix.ts';
import { SecureServers } from './secure-servers.ts';
import { identityFor, Sites } from './sites.ts';

/** A connection for a virtual host with `tls: passthrough`: nothing of it has been answered. */
export interface UnopenedConnection {
  /** Paused. The first that can be read from it is the whole ClientHello, as it came. */
  socket: Socket;
  peer: Peer;
  local: Peer;
  virtualHost: VirtualHost;
  serverName: string | undefined;
  /** A backend has it: the deadline (`timeouts.handshake`) is lifted. */
  settled: () => void;
  /** Tells the client, instead of that, that there will be no handshake; `code` is for the counters. */
  refuse: (code: string) => void;
}

/** A context costs about 40 KB: enough for every busy site, bounded where there are ten thousand names. */
const mostContexts = 2000;

interface Held {
  arrival: Arrival;
  hello: ClientHello;
}

/**
 * Terminates TLS: reads each ClientHello, chooses virtual host and identity, and hands the connection to the
 * `tls.Server` made for them. Nothing here fetches or reads a file. Only at the start a handshake waits, under the
 * deadline of all, until the supervisor has read the certificates of its virtual host.
 */
export class TlsFront {
  readonly #log: Log;
  readonly #counters: ConnectionCounters;
  readonly #onUnopened: (connection: UnopenedConnection) => void;
  readonly #servers: SecureServers;
  readonly #handshakes: Handshakes;
  #sites = new Sites([], [], []);
  readonly #held = new Set<Held>();

  constructor(options: {
    log: Log;
    counters: ConnectionCounters;
    staple: (fingerprint: string) => ServableStaple | undefined;
    onSecure: (connection: SecureConnection) => void;
    onUnopened: (connection: UnopenedConnection) => void;
    mostContexts?: number;
  }) {
    this.#log = options.log;
    this.#counters = options.counters;
    this.#onUnopened = options.onUnopened;
    this.#handshakes = new Handshakes(options);
    this.#servers = new SecureServers({
      most: options.mostContexts ?? mostContexts,
      staple: options.staple,
      onSecure: (socket, clients) => this.#handshakes.secured(socket, clients),
      onFailed: (error, socket) => this.#handshakes.failed(error, socket),
    });
  }

  /**
   * Serves new connections from this snapshot; those already open go on.
   * @returns virtual hosts whose rules for clients have changed: who is let in already was under the old ones
   */
  update({ config, identities, awaited, ticketSecret, clientAuthorities }: Snapshot): Set<string> {
    const changed = this.#handshakes.setRules(clientRules({ config, clientAuthorities }));
    this.#sites = new Sites(config.virtualHosts, identities, awaited);
    this.#servers.reset({ config, ticketSecret, clientAuthorities });
    this.#release();
    return changed;
  }

  /** Replaces all identities of some virtual hosts. */
  setIdentities(virtualHosts: readonly string[], identities: readonly Identity[]): void {
    this.#sites.setIdentities(virtualHosts, identities);
    this.#servers.forget(new Set(virtualHosts));
    this.#release();
  }

  setTicketSecret(ticketSecret: Uint8Array): void {
    this.#servers.setTicketSecret(ticketSecret);
  }

  accept(arrival: Arrival): void {
    readPrefix(
      arrival.socket,
      (bytes) => {
        const isHttp = looksLikeHttp(bytes);
        if (isHttp) throw new PlainHttp('plain HTTP on a TLS port');
        const hello = isHttp === undefined ? undefined : readClientHello(bytes);
        return hello && { value: hello, consumed: 0 };
      },
      (result) => {
        if ('error' in result) this.#refuse(arrival, result.error);
        else this.#takeUp({ arrival, hello: result.value });
      },
    );
  }

  #takeUp(held: Held): void {
    const { arrival, hello } = held;
    const { serverName } = hello;
    try {
      const site = this.#sites.find(serverName);
      const { virtualHost } = site;
      if (virtualHost.passthrough) {
        this.#passOn(arrival, virtualHost, serverName);
        return;
      }
      if (site.isAwaited) {
        this.#held.add(held);
        arrival.socket.once('close', () => this.#held.delete(held));
        return;
      }
      const server = this.#servers.get(virtualHost, identityFor(hello, site), allowsHttp2(hello, site.terms));
      this.#counters.now.contexts = this.#servers.size;
      this.#handshakes.begin(server, { arrival, virtualHost, serverName });
    } catch (error) {
      this.#refuse(arrival, error);
    }
  }

  /** What is held goes on, where its virtual host is awaited no more. */
  #release(): void {
    for (const held of this.#held) {
      if (this.#sites.isAwaited(held.hello.serverName)) continue;
      this.#held.delete(held);
      this.#takeUp(held);
    }
  }

  #passOn(arrival: Arrival, virtualHost: VirtualHost, serverName: string | undefined): void {
    const { socket, peer, local } = arrival;
    const settled = (): void => {
      this.#counters.carried += 1;
      arrival.settled();
    };
    const refuse = (code: string): void => {
      arrival.refused(code);
      refuseWith(socket, new TlsAlert(Alert.internalError, code, '').record);
    };
    this.#onUnopened({ socket, peer, local, virtualHost, serverName, settled, refuse });
  }

  #refuse(arrival: Arrival, error: unknown): void {
    const { socket, peer } = arrival;
    const refusal = error instanceof Error ? error : new Error('refused');
    const code = refusal instanceof TlsAlert || refusal instanceof PlainHttp ? refusal.code : 'tls_context';
    this.#log[code === 'tls_context' ? 'error' : 'debug'](`connection refused: ${refusal.message}`, { code, client: peer.address });
    arrival.refused(code);
    refuseWith(
      socket,
      refusal instanceof PlainHttp ? refusal.answer : refusal instanceof TlsAlert ? refusal.record : new TlsAlert(Alert.internalError, code, '').record,
    );
  }
}

/** The client has until the deadline of its handshake to take the answer and to close. */
function refuseWith(socket: Socket, answer: string | Buffer): void {
  socket.end(answer);
  socket.resume();
}
