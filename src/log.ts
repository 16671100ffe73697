import winston from 'winston';

export type Level = 'error' | 'warn' | 'info' | 'debug';

/** Facts beside a message: `code` is a stable word from docs/errors.md. Never a private key, never a stack trace. */
export type Facts = Record<string, string | number | boolean | null | undefined>;

export interface Log {
  error(message: string, facts?: Facts): void;
  warn(message: string, facts?: Facts): void;
  info(message: string, facts?: Facts): void;
  debug(message: string, facts?: Facts): void;
}

const { combine, timestamp, json, printf } = winston.format;

/** Control characters would let a client or a responder forge log lines or drive a terminal. */
function printable(text: string): string {
  return text.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

const text = printf(({ timestamp: time, level, message, ...facts }) => {
  const pairs = Object.entries(facts).filter(([, value]) => value !== undefined);
  const tail = pairs.map(([key, value]) => ` ${key}=${typeof value === 'string' && /[\s"=]/.test(value) ? JSON.stringify(value) : String(value)}`);
  return printable(`${String(time)} ${level.padEnd(5)} ${String(message)}${tail.join('')}`);
});

export interface LogSettings {
  level: Level;
  format: 'text' | 'json';
}

/** Logs to standard error, which systemd's journal keeps; one line an event. */
export function createLog(settings: LogSettings): Log & { configure(settings: LogSettings): void } {
  const options = ({ level, format }: LogSettings) => ({
    level,
    format: combine(timestamp(), format === 'json' ? json() : text),
    transports: [new winston.transports.Console({ stderrLevels: ['error', 'warn', 'info', 'debug'] })],
  });
  const logger = winston.createLogger(options(settings));
  const write = (level: Level) => (message: string, facts?: Facts) => void logger.log(level, message, facts);
  return { error: write('error'), warn: write('warn'), info: write('info'), debug: write('debug'), configure: (changed) => logger.configure(options(changed)) };
}
