import { FieldScanner } from './field-lines.ts';
import { scanResponseHead, type ScannedResponse } from './head.ts';
import { parseResponseHead, type ResponseHead } from './response-head.ts';

/**
 * Reads the response heads of one connection. Applications repeat most fields from one answer to the next, and some repeat
 * their whole head until its Date changes.
 */
export class ResponseScanner {
  readonly #fields = new FieldScanner();
  #known: { scanned: ScannedResponse; method: string; switching: boolean; head: ResponseHead } | undefined;

  /** As `scanResponseHead`. */
  scan(bytes: Buffer, end: number, lenient: boolean): ScannedResponse {
    return scanResponseHead(bytes, 0, end, lenient, this.#fields);
  }

  /** As `parseResponseHead`. */
  parse(scanned: ScannedResponse, method: string, switching: boolean): ResponseHead {
    const known = this.#known;
    if (known && areSame(known.scanned, scanned) && known.method === method && known.switching === switching) return known.head;
    const head = parseResponseHead(scanned, method, switching);
    this.#known = { scanned, method, switching, head };
    return head;
  }
}

function areSame(a: ScannedResponse, b: ScannedResponse): boolean {
  return a.fields === b.fields && a.status === b.status && a.version === b.version && a.reason === b.reason;
}
