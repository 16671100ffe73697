import { ConnectionError, ErrorCode, MAX_PAYLOAD, MAX_WINDOW, SETTINGS } from './frames.ts';
import type { FrameWriter } from './frame-writer.ts';

/** RFC 9113, 6.5.2, and RFC 8441, 3. */
export const Setting = {
  HEADER_TABLE_SIZE: 0x1,
  ENABLE_PUSH: 0x2,
  MAX_CONCURRENT_STREAMS: 0x3,
  INITIAL_WINDOW_SIZE: 0x4,
  MAX_FRAME_SIZE: 0x5,
  MAX_HEADER_LIST_SIZE: 0x6,
  ENABLE_CONNECT_PROTOCOL: 0x8,
} as const;
type Setting = (typeof Setting)[keyof typeof Setting];

/** What the other side says that changes what we send. We never send larger frames than everybody takes. */
export interface SettingsTaker {
  headerTable(size: number): void;
  initialWindow(size: number): void;
  /** How many streams we may begin. */
  maxStreams(count: number): void;
  /** Whether pushes are welcome, which only a client may say (RFC 9113, 6.5.2); nobody here pushes. */
  push(isWelcome: boolean): void;
}

/**
 * Reads settings, in order. Of windows only the last one counts, for nothing happens between the values of a frame (RFC 9113, 6.5.3):
 * taking each of 2,730 to all open streams would cost a millisecond.
 * @throws ConnectionError for values that there are not
 */
export function readSettings(bytes: Buffer, start: number, end: number, taker: SettingsTaker): void {
  let window = -1;
  for (let at = start; at < end; at += 6) {
    const name = bytes.readUInt16BE(at);
    const value = bytes.readUInt32BE(at + 2);
    switch (name) {
      case Setting.HEADER_TABLE_SIZE:
        taker.headerTable(value);
        break;
      case Setting.ENABLE_PUSH:
        check(value <= 1, name, value);
        taker.push(value === 1);
        break;
      case Setting.MAX_CONCURRENT_STREAMS:
        taker.maxStreams(value);
        break;
      case Setting.INITIAL_WINDOW_SIZE:
        if (value > MAX_WINDOW) throw new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, `an initial window of ${value}`);
        window = value;
        break;
      case Setting.MAX_FRAME_SIZE:
        check(value >= MAX_PAYLOAD && value < 2 ** 24, name, value);
        break;
      case Setting.ENABLE_CONNECT_PROTOCOL:
        check(value <= 1, name, value);
        break;
      default:
      // RFC 9113, 6.5.2: what nobody knows changes nothing, and advice on sizes is not needed.
    }
  }
  if (window !== -1) taker.initialWindow(window);
}

function check(isRight: boolean, name: number, value: number): void {
  if (!isRight) throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, `setting ${name} of ${value}`);
}

/** Our settings, with which our side begins (RFC 9113, 3.4). */
export function writeSettings(writer: FrameWriter, settings: readonly (readonly [name: Setting, value: number])[]): void {
  const payload = Buffer.alloc(6 * settings.length);
  for (const [at, [name, value]] of settings.entries()) payload.writeUInt32BE(value, payload.writeUInt16BE(name, 6 * at));
  writer.copy(SETTINGS, 0, 0, payload, 0, payload.length);
}
