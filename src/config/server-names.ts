/**
 * Finds what a host name stands for: the exact name, else the wildcard that covers it, else the default.
 * Names are lower case without a trailing dot; `*.example.org` covers exactly one label (RFC 9525, 6.3).
 */
export class ServerNames<T> {
  readonly #byName = new Map<string, T>();
  #default: T | undefined;

  constructor(entries: Iterable<{ names: readonly string[]; isDefault: boolean; value: T }>) {
    for (const { names, isDefault, value } of entries) {
      for (const name of names) this.#byName.set(name, value);
      if (isDefault) this.#default = value;
    }
  }

  /** What names `host`, without falling back to the default. */
  named(host: string): T | undefined {
    const dot = host.indexOf('.');
    return this.#byName.get(host) ?? (dot > 0 ? this.#byName.get(`*${host.slice(dot)}`) : undefined);
  }

  find(host: string | undefined): T | undefined {
    return (host === undefined ? undefined : this.named(host)) ?? this.#default;
  }
}
