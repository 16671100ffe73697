import { createHash } from 'node:crypto';
import type { Server } from 'node:http';
import type { Duplex } from 'node:stream';

/** As much of RFC 6455 as an echo server needs: frames as in section 5.2, no extensions. */

export const opcodes = { text: 1, close: 8, ping: 9, pong: 10 };

interface Frame {
  opcode: number;
  final: boolean;
  payload: Buffer;
}

/** A server's frame, which is not masked; with `mask`, four bytes, a client's. */
export function frame({ opcode, final = true, payload }: Omit<Frame, 'final'> & { final?: boolean }, mask?: Buffer): Buffer {
  const { length } = payload;
  const masked = mask ? 0x80 : 0;
  const head = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  head[0] = (final ? 0x80 : 0) | opcode;
  head[1] = masked | (length < 126 ? length : length < 65_536 ? 126 : 127);
  if (head.length === 4) head.writeUInt16BE(length, 2);
  if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
  return mask ? Buffer.concat([head, mask, unmasked(payload, mask)]) : Buffer.concat([head, payload]);
}

/** The first frame of what a client sent, and what is behind it; undefined while it is incomplete. */
function readFrame(bytes: Buffer): { frame: Frame; rest: Buffer } | undefined {
  if (bytes.length < 2) return undefined;
  const short = bytes[1]! & 0x7f;
  if ((bytes[1]! & 0x80) === 0) throw new Error('a client must mask (RFC 6455, 5.1)');
  const start = short < 126 ? 2 : short === 126 ? 4 : 10;
  if (bytes.length < start) return undefined;
  const length = short < 126 ? short : short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  const end = start + 4 + length;
  if (bytes.length < end) return undefined;
  const payload = unmasked(bytes.subarray(start + 4, end), bytes.subarray(start, start + 4));
  return { frame: { opcode: bytes[0]! & 0x0f, final: (bytes[0]! & 0x80) !== 0, payload }, rest: bytes.subarray(end) };
}

function unmasked(payload: Buffer, mask: Buffer): Buffer {
  const result = Buffer.from(payload);
  for (let i = 0; i < result.length; i += 1) result[i]! ^= mask[i & 3]!;
  return result;
}

/**
 * Makes a server echo WebSocket messages. The message `ping me` makes it ping, and tell as text what the pong held;
 * `close me` makes it close with 4001.
 */
export function echoWebSockets(server: Server): void {
  server.on('upgrade', (request, socket: Duplex, early: Buffer) => {
    const key = request.headers['sec-websocket-key'] ?? '';
    const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
    let received = early;
    const take = (): void => {
      for (let next = readFrame(received); next !== undefined; next = readFrame(received)) {
        received = next.rest;
        socket.write(answer(next.frame));
        if (next.frame.opcode === opcodes.close) socket.end();
      }
    };
    socket.on('data', (bytes: Buffer) => {
      received = Buffer.concat([received, bytes]);
      take();
    });
    socket.on('error', () => {});
    take();
  });
}

function answer(received: Frame): Buffer {
  const { opcode, payload } = received;
  if (opcode === opcodes.ping) return frame({ opcode: opcodes.pong, payload });
  if (opcode === opcodes.pong) return frame({ opcode: opcodes.text, payload: Buffer.from(`pong: ${payload.toString()}`) });
  const words = opcode === opcodes.text ? payload.toString() : '';
  if (words === 'ping me') return frame({ opcode: opcodes.ping, payload: Buffer.from('are you there') });
  if (words === 'close me') return frame({ opcode: opcodes.close, payload: Buffer.concat([Buffer.of(4001 >> 8, 4001 & 0xff), Buffer.from('as asked')]) });
  return frame(received);
}
