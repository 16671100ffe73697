import assert from 'node:assert/strict';
import test from 'node:test';
import { FaultyResponder } from './support/faulty-responder.ts';
import { httpBackend } from './support/backend.ts';
import { Firefox } from './support/firefox.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

test('Firefox opens a must-staple certificate with its staple, and refuses it without', needs('firefox-esr', 'certutil'), async (t) => {
  const site = await Site.create(t);
  const responder = await site.use(FaultyResponder.start(site.authority));
  const backend = await httpBackend(t, (_, response) => void response.end('<p>hello from behind</p>'));
  const names = ['stapled.test', 'bare.test'];
  const [stapled, bare] = await Promise.all(names.map(async (name) => site.write(name, await site.issue(name, { ocsp: responder.url, mustStaple: true }))));
  const program = await site.serving({
    shutdown_grace: '1s',
    virtual_hosts: [
      { server_name: 'stapled.test', certificates: [stapled], backends: [backend.url] },
      { server_name: 'bare.test', certificates: [bare], backends: [backend.url], ocsp: { stapling: false } },
    ],
  });
  const firefox = await site.use(Firefox.start(site.folder, { ca: site.ca, names }));
  const visit = (name: string) => firefox.open(`https://${name}:${program.port()}/`);
  assert.deepEqual(await visit('stapled.test'), { text: 'hello from behind' });
  const refused = await visit('bare.test');
  assert.match('error' in refused ? refused.error : refused.text, /MOZILLA_PKIX_ERROR_REQUIRED_TLS_FEATURE_MISSING/);
});
