import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** What sockets read into, one after the other: libuv offers 64 KB at a time, and TLS gives a record (16 KB). */
export const sharedBytes = Buffer.allocUnsafeSlow(65_536);

/**
 * Where a socket keeps the option `onread` of `net.connect`. There is no such option for accepted sockets and for TLS on top of
 * them, though what is behind it works there, too.
 */
const slots = new Map(Object.getOwnPropertySymbols(new Socket()).map((slot) => [slot.description, slot]));
const BUFFER = slots.get('kBuffer');
const CALLBACK = slots.get('kBufferCb');

interface Internals {
  _handle?: { useUserBuffer?: (bytes: Buffer) => void } | null;
  [slot: symbol]: unknown;
}

/**
 * Gives what a connected socket reads to `take`, instead of to whoever took it before. The bytes are valid until `take` returns.
 * As a stream, a socket makes a new buffer for each read: that is a tenth of a small request, and nearly half of a large
 * upload, because V8 starts a full collection for every few hundred of them. Streams that are no sockets are read as streams.
 */
export function takeReads(stream: Duplex, take: (bytes: Buffer) => void): void {
  // What was read before, or put back, comes this way.
  stream.on('data', take);
  const socket = stream as unknown as Internals;
  if (!socket._handle?.useUserBuffer || !BUFFER || !CALLBACK) return;
  socket[CALLBACK] = (length: number, bytes: Buffer) => take(bytes.subarray(0, length));
  if (socket[BUFFER]) return;
  socket[BUFFER] = sharedBytes;
  socket._handle.useUserBuffer(sharedBytes);
}
