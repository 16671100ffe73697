/** Connections that are open. The last one that leaves wakes whoever waits for that. */
export class OpenConnections<Connection extends { destroy(): unknown }> extends Set<Connection> {
  #emptied: (() => void) | undefined;

  override delete(connection: Connection): boolean {
    const isDeleted = super.delete(connection);
    if (this.size === 0) this.#emptied?.();
    return isDeleted;
  }

  /** Resolves when all have left; what is left after `graceMs` is cut. */
  async drained(graceMs: number): Promise<void> {
    if (this.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#emptied = resolve;
    const timer = setTimeout(() => {
      for (const connection of this) connection.destroy();
    }, graceMs);
    await promise;
    clearTimeout(timer);
  }
}
