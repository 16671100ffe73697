import type { Listen } from '../config/schema.ts';

/** Where a socket is bound, with names resolved. */
export type Place = TcpPlace | { socketPath: string } | { fdName: string };

export interface TcpPlace {
  host: string;
  port: number;
  family: 4 | 6;
}

function isWildcard({ host }: TcpPlace): boolean {
  return host === '0.0.0.0' || host === '::';
}

export function overlap(a: TcpPlace, b: TcpPlace): boolean {
  return a.family === b.family && a.port === b.port && (a.host === b.host || isWildcard(a) || isWildcard(b));
}

/** Whether connections to `b` belong to whoever listens on `a`, when nobody listens on `b`. */
export function covers(a: Place, b: Place): boolean {
  return 'port' in a && 'port' in b && isWildcard(a) && overlap(a, b);
}

/** The address in words, with its real port. */
export function inWords({ address }: Listen, place: Place): string {
  return 'port' in address && 'port' in place && address.port === 0 ? address.name.replace(/0$/, String(place.port)) : address.name;
}
