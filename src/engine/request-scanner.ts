import { readFields, type FieldFacts } from '../proxy/request-head.ts';
import { MAX_KNOWN } from './field-lines.ts';
import { scanFieldLines, scanRequestLine } from './head.ts';

/**
 * Reads the request heads of one connection. Clients repeat their fields from one request to the next, often word for
 * word: what has been read once is recognised by comparing it.
 */
export class RequestScanner {
  /** From the version on, which has a say in what fields mean. */
  #knownLines = '';
  #known: FieldFacts | undefined;

  /**
   * @param end as `findHeadEnd` says
   * @throws ProxyError; `onLine` has been told method and target before, if these are well-formed
   */
  scan(bytes: Buffer, end: number, onLine: (line: string) => void): { method: string; target: string; facts: FieldFacts } {
    const head = bytes.toString('latin1', 0, end);
    const { method, target, version, next } = scanRequestLine(head);
    onLine(`${method} ${target}`);
    const lines = head.slice(next - '1.1\r\n'.length);
    if (this.#known && lines === this.#knownLines) return { method, target, facts: this.#known };
    const facts = readFields(version, scanFieldLines(head, next));
    if (head.length <= MAX_KNOWN) {
      this.#knownLines = lines;
      this.#known = facts;
    }
    return { method, target, facts };
  }
}
