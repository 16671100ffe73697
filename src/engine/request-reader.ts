import { parseRequestHead, type RequestHead } from '../proxy/request-head.ts';
import { findHeadEnd } from './head.ts';
import { MessageReader } from './message-reader.ts';
import { RequestScanner } from './request-scanner.ts';

/** Reads the requests of one connection. */
export class RequestReader extends MessageReader {
  readonly #scanner = new RequestScanner();

  /**
   * @returns undefined when more bytes are needed
   * @throws ProxyError; `onLine` has been told method and target before, if these are well-formed
   */
  readHead(onLine: (line: string) => void): RequestHead | undefined {
    const end = findHeadEnd(this.bytes, this.searched);
    if (end === -1) {
      this.searched = this.bytes.length;
      return undefined;
    }
    const { method, target, facts } = this.#scanner.scan(this.bytes, end, onLine);
    const head = parseRequestHead(method, target, facts);
    this.pass(end);
    this.expect(head.framing, 'bad_request');
    return head;
  }
}
