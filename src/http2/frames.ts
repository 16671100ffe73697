/** RFC 9113, 6. */
export const DATA = 0x0;
export const HEADERS = 0x1;
export const PRIORITY = 0x2;
export const RST_STREAM = 0x3;
export const SETTINGS = 0x4;
export const PUSH_PROMISE = 0x5;
export const PING = 0x6;
export const GOAWAY = 0x7;
export const WINDOW_UPDATE = 0x8;
export const CONTINUATION = 0x9;

export const END_STREAM = 0x1;
export const ACK = 0x1;
export const END_HEADERS = 0x4;
export const PADDED = 0x8;
export const WITH_PRIORITY = 0x20;

/** RFC 9113, 7. */
export const ErrorCode = {
  NO_ERROR: 0x0,
  PROTOCOL_ERROR: 0x1,
  INTERNAL_ERROR: 0x2,
  FLOW_CONTROL_ERROR: 0x3,
  SETTINGS_TIMEOUT: 0x4,
  STREAM_CLOSED: 0x5,
  FRAME_SIZE_ERROR: 0x6,
  REFUSED_STREAM: 0x7,
  CANCEL: 0x8,
  COMPRESSION_ERROR: 0x9,
  CONNECT_ERROR: 0xa,
  ENHANCE_YOUR_CALM: 0xb,
  INADEQUATE_SECURITY: 0xc,
  HTTP_1_1_REQUIRED: 0xd,
} as const;
export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode];
const names = new Map<number, string>(Object.entries(ErrorCode).map(([name, code]) => [code, name]));

/** What the RFC calls a code that somebody has sent, who may send any number. */
export function errorName(code: number): string {
  return names.get(code) ?? `error ${code}`;
}

/** RFC 9113, 4.1: length, type, flags, stream. */
export const FRAME_HEAD = 9;
/** The largest payload that everybody takes without having said so (RFC 9113, 4.2). */
export const MAX_PAYLOAD = 16_384;
export const MAX_WINDOW = 2 ** 31 - 1;
/** Each flow-control window at the beginning (RFC 9113, 6.9.2). */
export const INITIAL_WINDOW = 65_535;
/** With what a client begins (RFC 9113, 3.4). */
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** The connection cannot go on (RFC 9113, 5.4.1). */
export class ConnectionError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** One stream cannot go on, its siblings can (RFC 9113, 5.4.2). */
export class StreamError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
