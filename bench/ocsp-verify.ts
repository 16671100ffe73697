import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Authority } from '../src/demo/authority.ts';
import { signResponse } from '../src/demo/ocsp-signer.ts';
import { acceptResponse } from '../src/ocsp/verify.ts';
import { median } from './material.ts';

/**
 * What it costs to verify one response: ours in a warm process, against `openssl ocsp -respin` over the same file, less
 * what an `openssl version` costs, which is about its start alone.
 */

const folder = await mkdtemp(path.join(tmpdir(), 'staplegate-bench-'));
const rounds = 2_000;
const policy = { now: Date.now() + 1000, clockSkew: 300_000, maxAge: -1, noNextUpdate: 86_400_000, maxResponseSize: 65_536 };
const milliseconds = (work: () => void): number => {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
};

for (const keyType of ['ecdsa', 'rsa'] as const) {
  for (const delegated of [false, true]) {
    const authority = await Authority.root('Bench', { keyType });
    const leaf = await authority.issue({ names: ['a.test'], keyType });
    const delegate = await authority.issue({ commonName: 'OCSP', ocspSigning: true, keyType });
    const subject = { leaf: leaf.certificate, issuer: authority.certificate };
    const der = signResponse({ signer: delegated ? delegate : authority, certs: delegated ? [delegate.certificate] : [], entries: [{ certId: subject }] });
    const file = (name: string) => path.join(folder, name);
    await Promise.all([writeFile(file('ca.pem'), authority.pem), writeFile(file('leaf.pem'), leaf.pem), writeFile(file('response.der'), der)]);

    const response = await readFile(file('response.der'));
    for (let i = 0; i < 200; i++) acceptResponse(response, subject, policy);
    const ours = milliseconds(() => {
      for (let i = 0; i < rounds; i++) acceptResponse(response, subject, policy);
    });

    const wall = (...args: string[]): number => {
      const started = performance.now();
      const { status, stderr } = spawnSync('openssl', args);
      if (status !== 0) throw new Error(`openssl ${args.join(' ')}: ${stderr.toString()}`);
      return performance.now() - started;
    };
    const verifyArgs = ['ocsp', '-respin', file('response.der'), '-issuer', file('ca.pem'), '-cert', file('leaf.pem'), '-CAfile', file('ca.pem'), '-no_nonce'];
    const walls = Array.from({ length: 15 }, () => ({ verify: wall(...verifyArgs), start: wall('version') }));
    const theirs = median(walls.map(({ verify }) => verify));
    const start = median(walls.map((times) => times.start));
    console.log(
      JSON.stringify({
        bench: 'ocsp-verify',
        signer: `${keyType}${delegated ? ', delegate' : ''}`,
        bytes: der.length,
        ours_ms: Number((ours / rounds).toFixed(4)),
        openssl_ms: Number(theirs.toFixed(2)),
        openssl_less_start_ms: Number((theirs - start).toFixed(2)),
        ratio_to_openssl: Number((ours / rounds / theirs).toFixed(4)),
      }),
    );
  }
}
await rm(folder, { recursive: true });
