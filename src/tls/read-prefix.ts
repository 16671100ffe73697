import type { Socket } from 'node:net';

/**
 * Reads the beginning of a connection until `parse` makes something of it, then puts back all but the bytes it consumed.
 *
 * Calls `done` once with what was parsed or with what `parse` threw, the socket paused; never, when the connection
 * ends before that. How long it may take is the caller's timer, how much is `parse`'s to bound.
 */
export function readPrefix<T>(
  socket: Socket,
  parse: (bytes: Buffer) => { value: T; consumed: number } | undefined,
  done: (result: { value: T } | { error: unknown }) => void,
): void {
  let bytes: Buffer = Buffer.alloc(0);
  const stop = () => {
    socket.off('data', onData);
    socket.off('end', onEnd);
    socket.pause();
  };
  const onData = (chunk: Buffer) => {
    bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
    let parsed: ReturnType<typeof parse>;
    try {
      parsed = parse(bytes);
    } catch (error) {
      stop();
      done({ error });
      return;
    }
    if (parsed === undefined) return;
    stop();
    if (parsed.consumed < bytes.length) socket.unshift(bytes.subarray(parsed.consumed));
    done({ value: parsed.value });
  };
  const onEnd = () => socket.destroy();
  socket.on('data', onData);
  socket.on('end', onEnd);
  socket.resume(); // it is paused when another prefix was read before
}
