import { createLog } from '../log.ts';
import type { FromWorker, ToWorker } from './messages.ts';
import { Worker } from './worker.ts';

/** Entry point of a worker process: obeys the supervisor's messages, and ends with it. */

let log = createLog({ level: 'info', format: 'text' });
let worker: Worker | undefined;
let graceMs = 30_000;
let closing = false;

function say(message: FromWorker): Promise<void> {
  return new Promise((resolve) => {
    if (process.connected) process.send?.(message, () => resolve());
    else resolve();
  });
}

async function sayCounters(): Promise<void> {
  if (worker) await say({ type: 'counted', connections: worker.connections });
}

async function close(hasSuccessor = false): Promise<void> {
  if (closing) {
    // Without successors there is no time left for idle connections and tunnels.
    if (!hasSuccessor) await worker?.close(graceMs);
    return;
  }
  closing = true;
  await worker?.close(graceMs, hasSuccessor);
  await sayCounters();
  process.exit(0);
}

async function obey(message: ToWorker): Promise<void> {
  if (message.type === 'close') {
    graceMs = message.graceMs;
    await close(message.hasSuccessor);
  } else if (message.type === 'start') {
    const { config } = message.snapshot;
    log = createLog(config.log);
    graceMs = config.shutdownGrace;
    worker = new Worker(message.snapshot, log);
    await worker.listen(message.sockets);
    await say({ type: 'listening' });
  } else if (message.type === 'count') {
    await sayCounters();
  } else {
    if (message.type === 'snapshot') graceMs = message.snapshot.config.shutdownGrace;
    worker?.apply(message);
  }
}

process.on('message', (message: ToWorker) => {
  obey(message).catch((error: unknown) => {
    void say({ type: 'failed', message: error instanceof Error ? error.message : String(error) }).then(() => process.exit(1));
  });
});
// A terminal's Ctrl-C reaches the whole process group; the supervisor decides what happens then.
process.on('SIGINT', () => {});
process.on('SIGHUP', () => {});
process.on('SIGTERM', () => {
  void say({ type: 'leaving' });
  void close(true);
});
process.on('disconnect', () => void close());
// As in the supervisor, whose standard error this is.
process.stderr.on('error', () => {});
process.on('uncaughtException', (error) => {
  log.error(`worker ends after an internal error: ${error.message}`, { code: 'internal_error', at: error.stack?.split('\n')[1]?.trim() });
  process.exit(1);
});
