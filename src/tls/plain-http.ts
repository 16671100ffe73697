const text = 'This port speaks TLS: use https:// instead of http://.\n';

/** A client that spoke HTTP where it should have spoken TLS; it gets an answer that it understands. */
export class PlainHttp extends Error {
  readonly code = 'plain_http';
  readonly answer = `HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: ${text.length}\r\nConnection: close\r\n\r\n${text}`;
}

/**
 * A request line begins with a method in capital letters; a TLS record never does.
 * @returns undefined when it is too early to tell
 */
export function looksLikeHttp(bytes: Buffer): boolean | undefined {
  const begin = bytes.toString('latin1', 0, 16);
  return /^[A-Z]{3,8} \S/.test(begin) || (/^[A-Z]{1,8} ?$/.test(begin) ? undefined : false);
}
