import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';

const MAX_LEFT = 262_144;
const MAX_WAIT = 5_000;

/**
 * Reads what is left of the body of a request that has its answer, so that the next request can be found behind it
 * (RFC 9112, 9.3). A client that goes on and on is told that this is the end, and cut a little later.
 */
export function drain(req: IncomingMessage, socket: Socket): void {
  if (req.complete || req.destroyed) {
    req.resume();
    return;
  }
  let left = MAX_LEFT;
  const timer = setTimeout(() => socket.destroy(), MAX_WAIT);
  req.on('data', (chunk: Buffer) => {
    left -= chunk.length;
    if (left >= 0) return;
    req.pause();
    socket.end();
  });
  const stop = (): void => {
    clearTimeout(timer);
    socket.off('close', stop);
  };
  req.once('end', stop);
  socket.once('close', stop);
  req.resume();
}

/**
 * Closes after a last answer, but not at once: closing on unread input resets the connection, and the client may lose
 * the answer with it (RFC 9112, 9.6).
 */
export function linger(socket: Socket): void {
  socket.end();
  const timer = setTimeout(() => socket.destroy(), MAX_WAIT);
  socket.once('end', () => socket.destroy());
  socket.once('close', () => clearTimeout(timer));
  socket.resume();
}
