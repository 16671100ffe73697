import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { ProxyError } from './proxy-error.ts';

const PREFIX = '/.well-known/acme-challenge/';
/** A key authorization is a token and a thumbprint: some hundred bytes. */
const MAX_SIZE = 16_384;

/**
 * The token of an HTTP-01 challenge path (RFC 8555, 8.3), undefined for every other path. Tokens are base64url: with `..`
 * a stranger would reach, over plain HTTP, what a virtual host keeps for those who have a client certificate.
 * @throws ProxyError no_challenge for a challenge path without a token
 */
export function challengeToken(path: string): string | undefined {
  if (!path.startsWith(PREFIX)) return undefined;
  const token = path.slice(PREFIX.length);
  if (!/^[A-Za-z0-9_-]{1,256}$/.test(token)) throw new ProxyError('no_challenge', 'no such ACME challenge', { cause: 'not a token' });
  return token;
}

/**
 * The file of a token from `challengeToken`: no name leads out of the folder, and links are not followed.
 * @throws ProxyError no_challenge
 */
export async function readChallenge(folder: string, token: string): Promise<Buffer> {
  const missing = (cause: string): ProxyError => new ProxyError('no_challenge', 'no such ACME challenge', { folder, cause, setting: 'acme_challenge_dir' });
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  try {
    await using file = await open(join(folder, token), flags);
    const status = await file.stat();
    if (!status.isFile() || status.size > MAX_SIZE) throw missing('not a small regular file');
    const content = Buffer.alloc(status.size);
    const { bytesRead } = await file.read(content, 0, status.size, 0);
    return content.subarray(0, bytesRead);
  } catch (error) {
    throw error instanceof ProxyError ? error : missing((error as NodeJS.ErrnoException).code ?? 'unreadable');
  }
}
