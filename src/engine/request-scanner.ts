import { readFields, type FieldFacts } from '../proxy/request-head.ts';
import { MAX_KNOWN } from './field-lines.ts';
import { scanFieldLines, scanRequestLine } from './head.ts';

const NOTHING = Buffer.alloc(0);

/**
 * Reads the request heads of one connection. Clients repeat their fields from one request to the next, often word for
 * word: what has been read once is recognised by comparing bytes.
 */
export class RequestScanner {
  /** From the version on, which has a say in what fields mean. */
  #knownBytes: Buffer = NOTHING;
  #known: FieldFacts | undefined;

  /**
   * @param end as `findHeadEnd` says
   * @throws ProxyError; `onLine` has been told method and target before, if these are well-formed
   */
  scan(bytes: Buffer, end: number, onLine: (line: string) => void): { method: string; target: string; facts: FieldFacts } {
    const { method, target, version, next } = scanRequestLine(bytes, 0);
    onLine(`${method} ${target}`);
    const lines = bytes.subarray(next - '1.1\r\n'.length, end);
    if (this.#known && lines.equals(this.#knownBytes)) return { method, target, facts: this.#known };
    const facts = readFields(version, scanFieldLines(bytes, next, end));
    if (lines.length <= MAX_KNOWN) {
      this.#knownBytes = Buffer.from(lines);
      this.#known = facts;
    }
    return { method, target, facts };
  }
}
