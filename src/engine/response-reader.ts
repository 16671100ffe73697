import { ProxyError } from '../proxy/proxy-error.ts';
import { findResponseHeadEnd, type ScannedResponse } from './head.ts';
import { MessageReader } from './message-reader.ts';
import type { ResponseHead } from './response-head.ts';
import { ResponseScanner } from './response-scanner.ts';

/** Reads the answers of one connection to a backend. */
export class ResponseReader extends MessageReader {
  readonly #scanner = new ResponseScanner();

  /**
   * The next head, as it stands there: that of an interim answer, or one for `beginAnswer`.
   * @returns undefined when more bytes are needed
   * @throws ProxyError backend_bad_response
   */
  readHead(lenient: boolean): ScannedResponse | undefined {
    const end = findResponseHeadEnd(this.bytes, this.searched, lenient);
    if (end === -1) {
      this.searched = this.bytes.length;
      // Another protocol may never send the end of a head.
      if (!looksLikeHttp(this.bytes)) throw new ProxyError('backend_bad_response', "the backend's answer is malformed", { cause: 'not HTTP/1' });
      return undefined;
    }
    const scanned = this.#scanner.scan(this.bytes, end, lenient);
    this.pass(end);
    return scanned;
  }

  /** As `parseResponseHead`; the body comes next. */
  beginAnswer(scanned: ScannedResponse, method: string, switching: boolean): ResponseHead {
    const head = this.#scanner.parse(scanned, method, switching);
    this.expect(head.delimiter, 'backend_bad_response');
    return head;
  }
}

function looksLikeHttp(bytes: Buffer): boolean {
  return 'HTTP/1.'.startsWith(bytes.toString('latin1', 0, 7));
}
