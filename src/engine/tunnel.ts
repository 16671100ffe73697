import type { Duplex } from 'node:stream';
import type { TunnelTraffic } from '../proxy/engine.ts';

/**
 * Joins two connections until either ends: what had arrived is still delivered, then both are closed. A half-closed
 * WebSocket has nothing left to say, and an idle one is cut after `idle` ms. Resolves when both are closed.
 */
export function joinTunnel(client: Duplex, backend: Duplex, idle: number): Promise<TunnelTraffic> {
  const traffic: TunnelTraffic = { received: 0, sent: 0 };
  return new Promise((resolve) => {
    let open = 2;
    const cut = (): void => {
      client.destroy();
      backend.destroy();
    };
    const timer = setTimeout(cut, idle);
    const carry = (from: Duplex, to: Duplex, count: (bytes: number) => void): void => {
      from.on('data', (chunk: Buffer) => {
        count(chunk.length);
        timer.refresh();
      });
      from.pipe(to);
      from.on('error', cut);
      // `pipe` ends `to` when `from` has ended; once `to` has flushed that, there is nobody left to talk to.
      to.once('finish', cut);
      from.once('close', () => {
        if (from.errored || !from.readableEnded) cut();
        open -= 1;
        if (open > 0) return;
        clearTimeout(timer);
        resolve(traffic);
      });
    };
    carry(client, backend, (bytes) => (traffic.received += bytes));
    carry(backend, client, (bytes) => (traffic.sent += bytes));
    if (client.destroyed || backend.destroyed) cut();
  });
}
