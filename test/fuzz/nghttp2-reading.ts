import * as http2 from 'node:http2';
import { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { ErrorCode, PREFACE } from '../../src/http2/frames.ts';
import { flags, frame, frameTypes } from '../support/http2.ts';
import type { BlockReading } from './hpack.ts';

/** How nghttp2, which is in node:http2, reads the same header blocks. */

class Connection extends Duplex {
  output = Buffer.alloc(0);

  override _read(): void {}

  override _write(bytes: Buffer, _encoding: string, done: () => void): void {
    this.output = Buffer.concat([this.output, bytes]);
    done();
  }
}

/** The error codes of RST_STREAM by stream, and of GOAWAY as that of stream 0. */
function errorsIn(output: Buffer): Map<number, number> {
  const errors = new Map<number, number>();
  for (let at = 0; at + 9 <= output.length; at += 9 + output.readUIntBE(at, 3)) {
    if (output[at + 3] === frameTypes.rstStream) errors.set(output.readUInt32BE(at + 5), output.readUInt32BE(at + 9));
    if (output[at + 3] === frameTypes.goaway) errors.set(0, output.readUInt32BE(at + 13));
  }
  return errors;
}

/** Reads blocks of one connection, up to the first that ends it. */
export async function nghttp2Blocks(blocks: readonly Buffer[]): Promise<BlockReading[]> {
  const connection = new Connection();
  const session = http2.performServerHandshake(connection, { strictSingleValueFields: false });
  session.on('error', () => {});
  const lists = new Map<number, string[]>();
  session.on('stream', (stream: http2.ServerHttp2Stream, _headers: unknown, _flags: number, raw: string[]) => {
    stream.on('error', () => {});
    lists.set(stream.id ?? 0, [...raw]);
  });
  connection.push(Buffer.concat([PREFACE, frame(frameTypes.settings, 0, 0)]));
  const readings: BlockReading[] = [];
  for (const [n, block] of blocks.entries()) {
    const id = 2 * n + 1;
    connection.push(frame(frameTypes.headers, flags.endHeaders | flags.endStream, id, block));
    // Frames are read, told of and answered in turns.
    for (let turns = 0; turns < 3; turns += 1) await setImmediate();
    const errors = errorsIn(connection.output);
    const list = lists.get(id);
    if (list) readings.push(list);
    else if (errors.has(id)) readings.push('malformed');
    else readings.push(errors.get(0) === ErrorCode.COMPRESSION_ERROR ? 'compression error' : 'nothing');
    if (errors.has(0)) break;
  }
  session.destroy();
  connection.destroy();
  return readings;
}
