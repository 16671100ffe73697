import { STATUS_CODES } from 'node:http';
import { field, type Field } from './headers.ts';

/** What a client is told; nothing about backends, addresses or settings. */
const EXPLANATION: Record<number, string> = {
  400: 'The request is malformed.',
  404: 'There is nothing here.',
  405: 'This method is not allowed.',
  408: 'The request did not arrive in time.',
  411: 'The request must say how long it is.',
  413: 'The request is too large.',
  414: 'The address is too long.',
  417: 'The expectation cannot be met.',
  421: 'This connection is not for this site. Try again.',
  431: 'The request has too many or too large header fields.',
  500: 'Something went wrong in the proxy.',
  501: 'The request uses a transfer coding that is not supported.',
  502: 'The application behind this site is not reachable or gave no valid answer.',
  503: 'The application behind this site is busy. Try again in a moment.',
  504: 'The application behind this site did not answer in time.',
};

/** For how many seconds a busy site is left alone by whoever heeds Retry-After: about as long as a short crowd lasts. */
const RETRY_AFTER = 5;

/** A small page that needs nothing else: HTML for browsers, text for whoever does not ask for HTML. */
export function page(status: number, accept: string | undefined): { reason: string; fields: Field[]; body: Buffer } {
  const reason = STATUS_CODES[status] ?? 'Error';
  const title = `${status} ${reason}`;
  const explanation = EXPLANATION[status] ?? '';
  const html = accept === undefined || /text\/html|\*\/\*/i.test(accept);
  const body = html
    ? `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title}</title>` +
      `<body style="font:16px sans-serif;max-width:40em;margin:4em auto;padding:0 1em"><h1>${title}</h1><p>${explanation}</p></body></html>\n`
    : `${title}\n${explanation}\n`;
  return {
    reason,
    fields: [
      field('Content-Type', html ? 'text/html; charset=utf-8' : 'text/plain; charset=utf-8'),
      field('Content-Length', String(Buffer.byteLength(body))),
      field('Cache-Control', 'no-store'),
      ...(status === 503 ? [field('Retry-After', String(RETRY_AFTER))] : []),
    ],
    body: Buffer.from(body),
  };
}
