import { ConnectionError, ErrorCode, MAX_PAYLOAD, MAX_WINDOW, SETTINGS } from './frames.ts';
import type { FrameWriter } from './frame-writer.ts';

// RFC 9113, 6.5.2, and RFC 8441, 3.
const HEADER_TABLE_SIZE = 0x1;
const ENABLE_PUSH = 0x2;
const MAX_CONCURRENT_STREAMS = 0x3;
const INITIAL_WINDOW_SIZE = 0x4;
const MAX_FRAME_SIZE = 0x5;
const MAX_HEADER_LIST_SIZE = 0x6;
const ENABLE_CONNECT_PROTOCOL = 0x8;

/** What a client says that changes what we send. We never send larger frames than everybody takes, and push nothing. */
export interface ClientSettings {
  headerTable(size: number): void;
  initialWindow(size: number): void;
}

/** Reads settings, in order. @throws ConnectionError for values that there are not */
export function readSettings(bytes: Buffer, start: number, end: number, client: ClientSettings): void {
  for (let at = start; at < end; at += 6) {
    const name = bytes.readUInt16BE(at);
    const value = bytes.readUInt32BE(at + 2);
    if (name === HEADER_TABLE_SIZE) client.headerTable(value);
    else if (name === ENABLE_PUSH || name === ENABLE_CONNECT_PROTOCOL) check(value <= 1, name, value);
    else if (name === MAX_FRAME_SIZE) check(value >= MAX_PAYLOAD && value < 2 ** 24, name, value);
    else if (name === INITIAL_WINDOW_SIZE) {
      if (value > MAX_WINDOW) throw new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, `an initial window of ${value}`);
      client.initialWindow(value);
    }
  }
}

function check(isRight: boolean, name: number, value: number): void {
  if (!isRight) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, `setting ${name} of ${value}`);
}

/** Our side of the preface (RFC 9113, 3.4). */
export function writeSettings(
  writer: FrameWriter,
  { maxStreams, window, maxHeaderList, webSocket }: { maxStreams: number; window: number; maxHeaderList: number; webSocket: boolean },
): void {
  const settings = [
    [MAX_CONCURRENT_STREAMS, maxStreams],
    [INITIAL_WINDOW_SIZE, window],
    [MAX_HEADER_LIST_SIZE, maxHeaderList],
    ...(webSocket ? [[ENABLE_CONNECT_PROTOCOL, 1]] : []),
  ] as [number, number][];
  const payload = Buffer.alloc(6 * settings.length);
  for (const [at, [name, value]] of settings.entries()) payload.writeUInt32BE(value, payload.writeUInt16BE(name, 6 * at));
  writer.copy(SETTINGS, 0, 0, payload, 0, payload.length);
}
