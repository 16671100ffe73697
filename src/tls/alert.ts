/** Alert descriptions (RFC 8446, 6; RFC 6066, 3) that are sent before there is a TLS session to send them. */
export const Alert = {
  unexpectedMessage: 10,
  recordOverflow: 22,
  handshakeFailure: 40,
  illegalParameter: 47,
  decodeError: 50,
  protocolVersion: 70,
  internalError: 80,
  unrecognizedName: 112,
} as const;

/** A connection refused before its handshake: `code` is for the log, `alert` for the client. */
export class TlsAlert extends Error {
  override name = 'TlsAlert';
  readonly alert: number;
  readonly code: string;

  constructor(alert: number, code: string, message: string) {
    super(message);
    this.alert = alert;
    this.code = code;
  }

  /** The plaintext record with the fatal alert. */
  get record(): Buffer {
    return Buffer.of(21, 3, 3, 0, 2, 2, this.alert);
  }
}
