import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TunnelTraffic } from '../proxy/engine.ts';
import { ReadBuffer } from './read-buffer.ts';
import { takeReads } from './socket-reads.ts';

/** Up to here a buffer of its own costs less than one that is used again. */
const SMALL = 4_096;
/** ms for the other side to take what the one that has ended said last. */
const LAST_WORDS = 30_000;
/** ms for it to close then, too. */
const MAX_WAIT = 5_000;

/**
 * Joins two connections until either ends: what it had said is still delivered, what comes from the other side is dropped
 * from then on, and both are closed. An idle WebSocket is cut after `idle` ms. Resolves when both are closed.
 * @param halfClosed for what may go on in one direction (TLS 1.3 may, RFC 8446, 6.1): the end of one side is passed on,
 *   and the other may pause this many ms from then on
 */
export function joinTunnel(client: Duplex, backend: Duplex, idle: number, halfClosed?: number): Promise<TunnelTraffic> {
  const traffic: TunnelTraffic = { received: 0, sent: 0 };
  return new Promise((resolve) => {
    let open = 2;
    let movedAt = performance.now();
    let patience = idle;
    /** Which side of a WebSocket has ended first: it hears nothing any more. */
    let ended: Duplex | undefined;
    const cut = (): void => {
      client.destroy();
      backend.destroy();
    };
    // Noting when something moved costs less than starting a timer anew with every frame.
    const check = (): void => {
      const left = movedAt + patience - performance.now();
      if (left > 0) timer = setTimeout(check, left);
      else cut();
    };
    let timer = setTimeout(check, idle);
    const shorten = (ms: number): void => {
      patience = ms;
      movedAt = performance.now();
      clearTimeout(timer);
      timer = setTimeout(check, ms);
    };
    const carry = (from: Duplex, to: Duplex, count: (bytes: number) => void): void => {
      takeReads(from, (bytes) => {
        // Closing on unread input would reset the connection, and last words could be lost with it (RFC 9112, 9.6).
        if (to === ended) return;
        movedAt = performance.now();
        count(bytes.length);
        if (!writeCopy(to, bytes)) from.pause();
      });
      to.on('drain', () => {
        movedAt = performance.now();
        from.resume();
      });
      from.on('end', () => {
        if (ended) return;
        if (halfClosed === undefined) {
          ended = from;
          shorten(LAST_WORDS);
          to.resume();
        }
        to.end();
      });
      from.on('error', () => from === ended || cut());
      // `to` has been given its end, and everything before.
      to.once('finish', () => {
        if (halfClosed !== undefined) shorten(halfClosed);
        else if (from === ended) shorten(MAX_WAIT);
      });
      from.once('close', () => {
        const isOrderly = halfClosed === undefined ? from === ended : !from.errored && from.readableEnded && from.writableFinished;
        if (!isOrderly) cut();
        open -= 1;
        if (open > 0) return;
        clearTimeout(timer);
        resolve(traffic);
      });
      from.resume();
    };
    carry(client, backend, (bytes) => (traffic.received += bytes));
    carry(backend, client, (bytes) => (traffic.sent += bytes));
    if (client.destroyed || backend.destroyed) cut();
  });
}

function writeCopy(to: Duplex, bytes: Buffer): boolean {
  // A stream of HTTP/2 takes bytes over before it sends them.
  if (bytes.length <= SMALL || !(to instanceof Socket)) return to.write(Buffer.from(bytes));
  let isReady = true;
  for (let at = 0; at < bytes.length;) {
    const buffer = ReadBuffer.take();
    at += buffer.add(bytes, at);
    isReady = to.write(buffer.filled, buffer.hold());
  }
  return isReady;
}
