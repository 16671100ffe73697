import { createHash, randomBytes } from 'node:crypto';
import { constants, open, readdir, unlink } from 'node:fs/promises';
import path from 'node:path';
import type { Log } from '../log.ts';
import { isTemporary, replaceFile } from '../ocsp/cache-files.ts';

/** What session ticket keys are derived from, and when its epoch began (ms since the epoch of the clock). */
export interface EpochSecret {
  secret: Buffer;
  since: number;
}

const mark = Buffer.from('staplegate ticket secret 1\n\0', 'latin1');
const secretSize = 32;
const checksumSize = 32;
const timeSize = 8;
const fileSize = mark.length + timeSize + secretSize + checksumSize;

const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();

/** The content of the file: a mark, the time, the secret, and a checksum of these. */
export function encodeSecret({ secret, since }: EpochSecret): Buffer {
  const time = Buffer.alloc(timeSize);
  time.writeBigUInt64BE(BigInt(since));
  const content = Buffer.concat([mark, time, secret]);
  return Buffer.concat([content, sha256(content)]);
}

/** @returns undefined for anything but what `encodeSecret` wrote */
export function decodeSecret(bytes: Buffer): EpochSecret | undefined {
  const content = bytes.subarray(0, fileSize - checksumSize);
  if (bytes.length !== fileSize || !content.subarray(0, mark.length).equals(mark) || !sha256(content).equals(bytes.subarray(content.length))) return undefined;
  return { since: Number(bytes.readBigUInt64BE(mark.length)), secret: Buffer.from(content.subarray(mark.length + timeSize)) };
}

/**
 * Whether an epoch is over. A clock that was set back must not stretch one: what begins a whole rotation in the future
 * is over too, so that none lasts longer than two rotations.
 */
export function isOver(since: number, rotation: number, now: number): boolean {
  return Math.abs(now - since) >= rotation;
}

/** A timer does not count the time that a machine sleeps, nor does it hear of a clock that is set. */
const longestWait = 60_000;

/**
 * The secret behind session tickets, in `state_dir/ticket-secret`, so that sessions outlive a restart.
 *
 * Each epoch has a new random secret, which takes the old one's place on disk before it is used. (Keys of all epochs
 * derived from one secret, as in RFC 5077's day, would open every recorded session to whoever copies the file once;
 * a chain of hashes would still open all later ones.) Without a writable disk the secret lives in memory only.
 */
export class TicketSecret {
  readonly #log: Log;
  readonly #now: () => number;
  readonly #onChange: (secret: Uint8Array) => void;
  #folder: string | undefined;
  #rotation = 0;
  #epoch: EpochSecret = { secret: randomBytes(secretSize), since: 0 };
  #timer: NodeJS.Timeout | undefined;
  #rotating: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor({ log, onChange, now = Date.now }: { log: Log; onChange: (secret: Uint8Array) => void; now?: () => number }) {
    this.#log = log;
    this.#onChange = onChange;
    this.#now = now;
  }

  get current(): Uint8Array {
    return this.#epoch.secret;
  }

  /** Takes up the secret kept in `folder` if its epoch is not over, or begins one. Never throws. */
  async open(folder: string, rotation: number): Promise<void> {
    this.#folder = folder;
    await this.#tidy(folder);
    const kept = await this.#read(path.join(folder, 'ticket-secret'));
    if (kept) this.#epoch = kept;
    await this.setRotation(rotation);
  }

  /** How long an epoch lasts from now on, the one under way among them; ms. */
  setRotation(rotation: number): Promise<void> {
    this.#rotation = rotation;
    return this.#review();
  }

  /** Resolves when nothing is being written any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#rotating;
  }

  #review(): Promise<void> {
    clearTimeout(this.#timer);
    this.#rotating = this.#rotating.then(async () => {
      if (this.#isClosed) return;
      const now = this.#now();
      if (isOver(this.#epoch.since, this.#rotation, now)) await this.#rotate(now);
      const left = this.#epoch.since + this.#rotation - this.#now();
      clearTimeout(this.#timer);
      if (!this.#isClosed) this.#timer = setTimeout(() => void this.#review(), Math.min(Math.max(left, 0), longestWait));
    });
    return this.#rotating;
  }

  async #rotate(since: number): Promise<void> {
    const epoch = { secret: randomBytes(secretSize), since };
    await this.#write(epoch);
    this.#epoch = epoch;
    this.#log.debug('session tickets have a new secret');
    this.#onChange(epoch.secret);
  }

  async #read(file: string): Promise<EpochSecret | undefined> {
    try {
      // A link could lead to a file that others choose; opening a pipe would wait for a writer.
      await using handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
      const { mode, uid, size } = await handle.stat();
      if ((mode & 0o077) !== 0) return this.#refuse(file, 'others than its owner may read or write it');
      if (uid !== process.geteuid?.()) return this.#refuse(file, 'it belongs to another user');
      const content = Buffer.alloc(fileSize);
      const { bytesRead } = size === fileSize ? await handle.read(content, 0, fileSize, 0) : { bytesRead: 0 };
      return decodeSecret(content.subarray(0, bytesRead)) ?? this.#refuse(file, 'it is damaged');
    } catch (error) {
      const { code = 'unknown error' } = error as NodeJS.ErrnoException;
      return code === 'ENOENT' ? undefined : this.#refuse(file, code === 'ELOOP' ? 'it is a symbolic link' : code);
    }
  }

  /** A crash in the middle of a write leaves a secret that was never used. */
  async #tidy(folder: string): Promise<void> {
    const names = await readdir(folder).catch(() => []);
    const left = names.filter((name) => isTemporary(name) && name.startsWith('.ticket-secret.'));
    await Promise.all(left.map((name) => unlink(path.join(folder, name)).catch(() => {})));
  }

  #refuse(file: string, why: string): undefined {
    this.#log.warn(`${file} is not used: ${why}; a new secret takes its place, and sessions from before the start are not resumed`, {
      code: 'ticket_secret_refused',
    });
  }

  async #write(epoch: EpochSecret): Promise<void> {
    const folder = this.#folder;
    if (folder === undefined) return;
    const file = path.join(folder, 'ticket-secret');
    try {
      await using handle = await open(folder);
      await replaceFile(file, encodeSecret(epoch), handle);
    } catch (error) {
      // The old one must not stay where it could be stolen. Where it cannot be removed either, the message is for both.
      await unlink(file).catch(() => {});
      this.#log.warn(
        `${file} cannot be written: ${(error as NodeJS.ErrnoException).code ?? 'unknown error'}; sessions will not be resumed after a restart (state_dir)`,
        {
          code: 'ticket_secret_not_kept',
        },
      );
    }
  }
}
