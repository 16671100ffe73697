/** What has happened since the start, for metrics: plain data, only ever counted up. */
export interface StaplingCounters {
  /** Accepted responses: fetched, given by hand, or imported. */
  updates: number;
  /** Writes to the disk cache that failed. */
  cacheWriteFailures: number;
  /** By origin, such as `http://ocsp.example.org`. */
  responders: Record<string, ResponderCounters>;
}

export interface ResponderCounters {
  /** How questions ended: `good`, `revoked`, or the code of the failure. */
  results: Record<string, number>;
  /** Of accepted responses. */
  bytes: number;
  /** Spent asking, whatever came of it. */
  milliseconds: number;
}

export interface AskedQuestion {
  url: string;
  result: string;
  bytes: number;
  milliseconds: number;
}

/** Certificates come and go, and with them the responders that they name; those beyond this number are counted as one. */
const mostResponders = 1000;
const others = 'others';

export function countQuestion({ responders }: StaplingCounters, { url, result, bytes, milliseconds }: AskedQuestion): void {
  const origin = URL.parse(url)?.origin ?? others;
  const name = origin in responders || Object.keys(responders).length < mostResponders ? origin : others;
  const counters = (responders[name] ??= { results: {}, bytes: 0, milliseconds: 0 });
  counters.results[result] = (counters.results[result] ?? 0) + 1;
  counters.bytes += bytes;
  counters.milliseconds += milliseconds;
}
