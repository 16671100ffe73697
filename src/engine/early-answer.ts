import type { Socket } from 'node:net';

type Done = (error?: Error | null) => void;

const failures = new WeakMap<Socket, NodeJS.ErrnoException>();

/**
 * Lets a socket be read after a failed write. A backend that answers before it has read the whole request, and closes, resets
 * the connection (RFC 9112, 9.6): writing fails, while its answer waits in the kernel. Node would throw that away with the
 * socket; here writing only seems to succeed, and reading finds the answer, and behind it the end or the error.
 */
export function readsOnAfterFailedWrite(socket: Socket): void {
  let forgiven: { done: Done; forgiving: Done } | undefined;
  // A stream says `done` with the same function each time.
  const forgiving = (done: Done): Done => {
    if (forgiven?.done === done) return forgiven.forgiving;
    forgiven = {
      done,
      forgiving: (error) => {
        if (error && !failures.has(socket)) failures.set(socket, error);
        done();
      },
    };
    return forgiven.forgiving;
  };
  const write = socket._write.bind(socket);
  const writev = socket._writev?.bind(socket);
  socket._write = (chunk, encoding, done) => write(chunk, encoding, forgiving(done));
  if (writev) socket._writev = (chunks, done) => writev(chunks, forgiving(done));
}

/** Why nothing more can be written. */
export function failedWrite(socket: Socket): NodeJS.ErrnoException | undefined {
  return failures.get(socket);
}

/**
 * Whether the end that is read is not one that the backend has sent: after a reset Linux lets the next write fail, and then
 * reading end. EPIPE instead of ECONNRESET tells that an end had come before the reset.
 */
export function isEndOfReset(socket: Socket): boolean {
  const failure = failures.get(socket);
  return failure !== undefined && failure.code !== 'EPIPE';
}
