import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setImmediate as immediate } from 'node:timers/promises';

/**
 * Answers with more than the kernel takes for a client that does not read, so that the rest waits in the process.
 * @param socket to the client
 * @returns the length of the body
 */
export async function overfill(answer: ServerResponse, socket: Socket): Promise<number> {
  let sent = 0;
  while (socket.writableLength === 0) {
    answer.write(Buffer.alloc(16_384, 'x'));
    sent += 16_384;
    while (socket.bytesWritten < sent) await immediate();
  }
  answer.end();
  return sent;
}
