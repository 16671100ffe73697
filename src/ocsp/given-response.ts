import { readSmallFile } from './cache-files.ts';

/** A file with an OCSP response that someone else fetches. */
export interface ResponseFile {
  path: string;
  /** The configuration names it, so that its absence is a mistake. */
  configured: boolean;
}

/** A file with a response cannot be read. */
export class ResponseFileError extends Error {
  readonly code = 'response_file_unreadable';
}

/** The file with the response for one certificate, which may come, change and go at any time. */
export class GivenResponse {
  readonly #file: ResponseFile;
  /** Content, or what was wrong. */
  #last: Buffer | string | undefined;

  constructor(file: ResponseFile) {
    this.#file = file;
  }

  /**
   * The content (DER, not verified) when it is not what it was the last time; undefined when it is, or when there is no file.
   *
   * @param limit bytes
   * @throws ResponseFileError, once for each new trouble
   */
  async read(limit: number): Promise<Buffer | undefined> {
    const { path, configured } = this.#file;
    const found = await readSmallFile(path, limit, { followLinks: true }).catch((error: Error) => `cannot be read: ${error.message}`);
    const now = found ?? (configured ? 'does not exist' : undefined);
    if (isSame(now, this.#last)) return undefined;
    this.#last = now;
    if (typeof now === 'string') throw new ResponseFileError(`${path} ${now} (certificates[].ocsp_response)`);
    return now;
  }
}

function isSame(a: Buffer | string | undefined, b: Buffer | string | undefined): boolean {
  return a === b || (Buffer.isBuffer(a) && Buffer.isBuffer(b) && a.equals(b));
}
