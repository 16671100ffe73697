interface Open {
  /** It carries bytes that have no end of their own: nobody can ask it to come back elsewhere. */
  readonly isTunnel?: boolean;
  destroy(): unknown;
}

/** Connections that are open. The last one that leaves wakes whoever waits for that. */
export class OpenConnections<Connection extends Open> extends Set<Connection> {
  #emptied: PromiseWithResolvers<void> | undefined;

  override delete(connection: Connection): boolean {
    const isDeleted = super.delete(connection);
    if (this.size > 0) return isDeleted;
    this.#emptied?.resolve();
    this.#emptied = undefined;
    return isDeleted;
  }

  /** Resolves when all have left; what is left after `graceMs` is cut, tunnels after `tunnelMs`. May be called again, with less patience. */
  async drained(graceMs: number, tunnelMs: number): Promise<void> {
    if (this.size === 0) return;
    this.#emptied ??= Promise.withResolvers();
    const others = setTimeout(() => this.#cut(false), graceMs);
    const tunnels = setTimeout(() => this.#cut(true), tunnelMs);
    await this.#emptied.promise;
    clearTimeout(others);
    clearTimeout(tunnels);
  }

  #cut(hasTunnels: boolean): void {
    for (const connection of this) if (hasTunnels || connection.isTunnel !== true) connection.destroy();
  }
}
