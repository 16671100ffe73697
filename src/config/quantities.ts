import { notation } from './notation.ts';

function scaled(units: Record<string, number>, { min, max }: { min: number; max: number }) {
  return (text: string): number | undefined => {
    const [, digits = '', unit = ''] = /^(\d{1,12})([a-z]*)$/.exec(text) ?? [];
    const factor = unit === '' && Number(digits) === 0 ? 0 : units[unit];
    if (digits === '' || factor === undefined) return undefined;
    const value = Number(digits) * factor;
    return value >= min && value <= max ? value : undefined;
  };
}

const timeUnits = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const timePattern = '^(0|[0-9]{1,12}(ms|s|m|h|d))$';

/** setTimeout fires at once for delays that do not fit 31 bits. */
const longestTimer = 24 * timeUnits.d;
const longestDuration = 3650 * timeUnits.d;

/** `250ms`, `10s`, `5m`, `12h`, `7d` or `0` → milliseconds, compared with ages. */
export const duration = notation(
  { name: 'duration', expected: 'a duration such as 10s, 5m, 12h or 7d, at most 3650d', pattern: timePattern, numeric: true },
  scaled(timeUnits, { min: 0, max: longestDuration }),
);

/** A duration that a timer can wait; 0 does not wait at all. */
export const wait = notation(
  { name: 'wait', expected: 'a duration such as 500ms, 10s or 5m, at most 24d, or 0', pattern: timePattern, numeric: true },
  scaled(timeUnits, { min: 0, max: longestTimer }),
);

/** A deadline: a duration that a timer can wait, and never 0, because nothing may take for ever and nothing can finish in no time. */
export const deadline = notation(
  { name: 'deadline', expected: 'a duration such as 500ms, 10s or 5m, more than 0 and at most 24d', pattern: '^[0-9]{1,12}(ms|s|m|h|d)$' },
  scaled(timeUnits, { min: 1, max: longestTimer }),
);

/** How long one secret of session tickets is used. No client keeps a ticket longer than seven days (RFC 8446, 4.6.1). */
export const rotation = notation(
  { name: 'rotation', expected: 'a duration such as 1h, 12h or 1d, from 1s to 7d', pattern: '^[0-9]{1,12}(ms|s|m|h|d)$' },
  scaled(timeUnits, { min: timeUnits.s, max: 7 * timeUnits.d }),
);

const age = scaled(timeUnits, { min: 0, max: longestDuration });

/** Apache's notation of SSLStaplingResponseMaxAge: a duration, or -1 for no limit. */
export const ageLimit = notation(
  { name: 'age_limit', expected: 'a duration such as 12h or 7d, or -1 for no limit', pattern: '^(-1|0|[0-9]{1,12}(ms|s|m|h|d))$', numeric: true },
  (text) => (text === '-1' ? -1 : age(text)),
);

const sizeUnits = { '': 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 };

/** `512`, `64k`, `1m` → bytes. */
export const size = notation(
  { name: 'size', expected: 'a size such as 512, 64k or 1m, more than 0 and at most 1g', pattern: '^[0-9]{1,12}[kmg]?$', numeric: true },
  scaled(sizeUnits, { min: 1, max: sizeUnits.g }),
);

/** Bytes per second; 0 for any. */
export const byteRate = notation(
  { name: 'byte_rate', expected: 'a number of bytes per second such as 500 or 10k, or 0', pattern: '^[0-9]{1,12}[kmg]?$', numeric: true },
  scaled(sizeUnits, { min: 0, max: sizeUnits.g }),
);

/** A whole number with no more digits than `max` has. */
function whole(min: number, max: number) {
  const digits = new RegExp(`^\\d{1,${String(max).length}}$`);
  return (text: string): number | undefined => (digits.test(text) && Number(text) >= min && Number(text) <= max ? Number(text) : undefined);
}

function orAuto(parse: (text: string) => number | undefined) {
  return (text: string): 'auto' | number | undefined => (text === 'auto' ? text : parse(text));
}

export const workerCount = notation(
  { name: 'worker_count', expected: 'auto, or a whole number from 0 to 256', pattern: '^(auto|[0-9]{1,3})$', numeric: true },
  orAuto(whole(0, 256)),
);

/** How many of something there may be. */
export const number = notation({ name: 'number', expected: 'a whole number from 1 to 99999999', pattern: '^[0-9]{1,8}$', numeric: true }, whole(1, 99_999_999));

export const numberOrAuto = notation(
  { name: 'number_or_auto', expected: 'auto, or a whole number from 1 to 99999999', pattern: '^(auto|[0-9]{1,8})$', numeric: true },
  orAuto(whole(1, 99_999_999)),
);

/** A number of authorities in a chain. */
export const depth = notation({ name: 'depth', expected: 'a whole number from 0 to 100', pattern: '^[0-9]{1,3}$', numeric: true }, whole(0, 100));

export const queueLength = notation(
  { name: 'queue_length', expected: 'a whole number from 0 to 99999', pattern: '^[0-9]{1,5}$', numeric: true },
  whole(0, 99_999),
);
