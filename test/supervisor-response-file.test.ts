import assert from 'node:assert/strict';
import { once } from 'node:events';
import { rename, writeFile } from 'node:fs/promises';
import test from 'node:test';
import tls from 'node:tls';
import { stringify } from 'yaml';
import type { Issued } from '../src/demo/authority.ts';
import { signResponse } from '../src/demo/ocsp-signer.ts';
import { Site } from './support/site.ts';

/** The program with responses that are given by hand, and nobody to ask. */

function response(site: Site, { certificate: leaf }: Issued, age = 0): Buffer {
  const thisUpdate = new Date(Math.floor(Date.now() / 1000) * 1000 - age);
  return signResponse({ signer: site.authority, producedAt: thisUpdate, entries: [{ certId: { leaf, issuer: site.authority.certificate }, thisUpdate }] });
}

async function put(file: string, content: Buffer | string): Promise<void> {
  await writeFile(`${file}.new`, content);
  await rename(`${file}.new`, file);
}

async function staple(port: number, servername: string): Promise<Buffer | null> {
  const socket = tls.connect({ port, host: '127.0.0.1', servername, requestOCSP: true, rejectUnauthorized: false });
  const [der] = (await once(socket, 'OCSPResponse')) as [Buffer | null];
  socket.destroy();
  return der;
}

test('ocsp_response, and the file beside the certificate: served from the start, replaced while running, taken up when it first comes', async (t) => {
  const site = await Site.create(t);
  const [named, beside, late] = [await site.issue('named.test'), await site.issue('beside.test'), await site.issue('late.test')];
  const first = response(site, named, 3_600_000);
  await writeFile(site.file('given.der'), first);
  const lateFiles = await site.write('late', late);
  const hosts = [
    { server_name: 'named.test', certificates: [{ ...(await site.write('named', named)), ocsp_response: 'given.der' }], backends: ['http://127.0.0.1:9'] },
    { server_name: 'beside.test', certificates: [await site.write('beside', beside)], backends: ['http://127.0.0.1:9'] },
    { server_name: 'late.test', certificates: [lateFiles], backends: ['http://127.0.0.1:9'] },
  ];
  const next = response(site, beside);
  await writeFile(site.file('beside.pem.ocsp'), next);
  const config = { listen: [{ address: '127.0.0.1:0' }], workers: 0, state_dir: 'state', shutdown_grace: '1s', virtual_hosts: hosts };
  const program = await site.serving(config);
  const port = program.port();
  assert.deepEqual(await staple(port, 'named.test'), first);
  assert.deepEqual(await staple(port, 'beside.test'), next);
  assert.equal(await staple(port, 'late.test'), null);

  const replaced = async (file: string, name: string, der: Buffer): Promise<void> => {
    const from = program.log.length;
    await put(site.file(file), der);
    await program.line(new RegExp(`OCSP update certificate=${name} .*${file.replaceAll('.', '\\.')} method=file result=good`), from);
    assert.deepEqual(await staple(port, name), der);
  };
  await replaced('given.der', 'named.test', response(site, named));
  await replaced('late.pem.ocsp', 'late.test', response(site, late));

  const from = program.log.length;
  await put(site.file('given.der'), response(site, beside));
  await program.line(/response in .*given\.der is not used: .* code=no_matching_entry/, from);
  assert.ok(await staple(port, 'named.test'));

  // A reload that names another file for the same certificate.
  const other = response(site, late);
  await writeFile(site.file('other.der'), other);
  const reread = program.log.length;
  await put(
    site.file('config.yaml'),
    stringify({ ...config, virtual_hosts: [...hosts.slice(0, 2), { ...hosts[2], certificates: [{ ...lateFiles, ocsp_response: 'other.der' }] }] }),
  );
  await program.line(/configuration reloaded/, reread);
  await program.line(/certificate=late\.test .*other\.der method=file/, reread);
  assert.deepEqual(await staple(port, 'late.test'), other);
});
