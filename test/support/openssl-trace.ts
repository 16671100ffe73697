import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import * as net from 'node:net';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { ClientHello } from '../../src/tls/client-hello.ts';
import { Authority } from '../../src/demo/authority.ts';

/**
 * What OpenSSL reads in each of these ClientHellos: `openssl s_server -trace` is sent one after the other, and prints them.
 * GREASE values are left in.
 */
export async function readByOpenssl(hellos: readonly Buffer[], folder: string): Promise<ClientHello[]> {
  const { pem, keyPem } = await (await Authority.root('Trace')).issue({ names: ['trace.test'] });
  await writeFile(path.join(folder, 'trace.pem'), pem + keyPem, { mode: 0o600 });
  const args = ['s_server', '-accept', '127.0.0.1:0', '-naccept', String(hellos.length), '-cert', path.join(folder, 'trace.pem'), '-trace'];
  // It ends when its input does.
  const child = spawn('openssl', args, { stdio: ['pipe', 'pipe', 'ignore'] });
  const exited = once(child, 'exit');
  const lines: string[] = [];
  const listening = Promise.withResolvers<number>();
  const output = createInterface({ input: child.stdout });
  output.on('line', (line) => {
    lines.push(line);
    const port = /^ACCEPT \S+:(\d+)$/.exec(line)?.[1];
    if (port !== undefined) listening.resolve(Number(port));
  });
  const read = once(output, 'close');
  output.on('close', () => listening.reject(new Error(`openssl s_server did not start: ${lines.join('\n')}`)));
  const port = await listening.promise;
  for (const hello of hellos) {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write(hello);
    await Promise.race([once(socket, 'data'), once(socket, 'close')]);
    socket.destroy();
  }
  child.stdin.end();
  await Promise.all([exited, read]);
  return lines
    .join('\n')
    .split(/^ {4}ClientHello, Length=\d+$/m)
    .slice(1)
    .map(readTrace);
}

/** One ClientHello in the words of OpenSSL's ssl/t1_trce.c, up to the next record. */
function readTrace(text: string): ClientHello {
  const [head = '', ...parts] = text.split(/^\S/m, 1)[0]!.split(/^ {8}extension_type=/m);
  const extensions = new Map(parts.map((part) => [Number(/\((\d+)\)/.exec(part)?.[1]), part.slice(part.indexOf('\n') + 1)]));
  const body = (extension: number): string => extensions.get(extension) ?? '';
  /** Groups and versions are in parentheses in decimal, signature algorithms in hexadecimal. */
  const numbers = (extension: number): number[] => [...body(extension).matchAll(/\((0x[0-9a-f]{4}|\d+)\)$/gm)].map(([, number]) => Number(number));
  const dumped = [...body(0).matchAll(/^ +[0-9a-f]{4} - ((?:[0-9a-f]{2}[ -])+)/gm)].map(([, row]) => row!.replaceAll(/[ -]/g, '')).join('');
  const legacyVersion = Number(/client_version=(0x\w+)/.exec(head)?.[1]);
  return {
    // Before the name: lengths of list and name, and the type of the name.
    serverName: extensions.has(0) ? Buffer.from(dumped, 'hex').toString('latin1', 5) : undefined,
    versions: extensions.has(43) ? numbers(43) : [0x0303, 0x0302, 0x0301].filter((version) => version <= legacyVersion),
    cipherSuites: [...head.matchAll(/\{0x(\w\w), 0x(\w\w)\}/g)].map(([, high, low]) => Number(`0x${high}${low}`)),
    signatureAlgorithms: extensions.has(13) ? numbers(13) : undefined,
    groups: numbers(10),
    applicationProtocols: body(16)
      .split('\n')
      .flatMap((line) => line.trim() || []),
    statusRequest: extensions.has(5),
  };
}
