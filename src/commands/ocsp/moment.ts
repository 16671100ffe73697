const isoForm = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:Z|([+-])(\d\d):?(\d\d)?))?$/i;
const opensslForm = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/;

/**
 * A point in time, in milliseconds since the epoch: ISO 8601 with `Z` or an offset, a date (its midnight in UTC), seconds
 * since the epoch, or YYYYMMDDHHMMSSZ as OpenSSL writes it. Undefined for anything else: a time without a zone means another moment
 * on another machine.
 */
export function parseMoment(text: string): number | undefined {
  // Four digits are meant as a year, not as a moment in 1970.
  if (/^(\d{1,3}|\d{5,11})$/.test(text)) return Number(text) * 1000;
  const [, year = '', month = '', day = '', hour = '00', minute = '00', second = '00', fraction = '', sign, offsetHours = '0', offsetMinutes = '0'] =
    isoForm.exec(text) ?? opensslForm.exec(text) ?? [];
  const time = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}.${fraction.padEnd(3, '0').slice(0, 3)}Z`);
  // Date.parse may take 31 February for a day in March: only what comes back unchanged is a time.
  if (Number.isNaN(time) || !new Date(time).toISOString().startsWith(`${year}-${month}-${day}T${hour}:${minute}:${second}`)) return undefined;
  if (Number(offsetHours) > 23 || Number(offsetMinutes) > 59) return undefined;
  return time - (sign === '-' ? -1 : 1) * (Number(offsetHours) * 60 + Number(offsetMinutes)) * 60_000;
}
