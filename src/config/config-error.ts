/** One fault of a configuration file. `line` and `column` count from 1; `path` is the setting, as in `virtual_hosts[0].tls`, or '' for the file itself. */
export interface Problem {
  line: number;
  column: number;
  path: string;
  message: string;
}

/** Problems kept of one file: more would only hide the first ones, which usually cause the rest. */
export const mostShown = 100;

/**
 * The configuration cannot be used. `config_unreadable`: the file could not be read, `problems` is empty.
 * `config_invalid`: everything that is wrong with it, in the order of the file; `message` has one line for each.
 */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly code: 'config_invalid' | 'config_unreadable';
  readonly problems: readonly Problem[];

  constructor(file: string, fault: string | readonly Problem[]) {
    const problems = typeof fault === 'string' ? [] : fault.toSorted((a, b) => a.line - b.line || a.column - b.column);
    const lines = problems.slice(0, mostShown).map((problem) => line(file, problem));
    if (problems.length > mostShown) lines.push(`${file}: further problems are not shown`);
    super(typeof fault === 'string' ? `${file}: ${fault}` : lines.join('\n'));
    this.code = typeof fault === 'string' ? 'config_unreadable' : 'config_invalid';
    this.problems = problems.slice(0, mostShown);
  }
}

function line(file: string, { line, column, path, message }: Problem): string {
  return `${file}:${line}:${column}: ${path === '' ? '' : `${path}: `}${message}`;
}

/** Text of the file inside a message: short, and without control characters. */
export function quoted(text: string): string {
  const short = text.length > 40 ? `${text.slice(0, 40)}…` : text;
  return `\`${short.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)}\``;
}
