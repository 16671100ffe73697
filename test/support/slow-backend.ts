import type { TestContext } from 'node:test';
import { RawBackend } from './backend.ts';

export interface SlowBackend {
  url: string;
  /** Resolves when a request for /slow waits. */
  asked(): Promise<void>;
  /** Answers everything that waits. */
  release(): void;
}

/** An application that answers at once, but /slow only when it is told to. */
export async function slowBackend(t: TestContext): Promise<SlowBackend> {
  let held: (() => void)[] = [];
  const backend = await new RawBackend((connection) => {
    if (!connection.text.endsWith('\r\n\r\n')) return;
    const respond = (): void => void connection.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    if (connection.text.startsWith('GET /slow')) held.push(respond);
    else respond();
    connection.text = '';
  }).listen(t);
  const release = (): void => {
    for (const respond of held) respond();
    held = [];
  };
  return { url: backend.url, asked: () => backend.until(() => held.length > 0), release };
}
