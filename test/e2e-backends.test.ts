import assert from 'node:assert/strict';
import { rename, writeFile } from 'node:fs/promises';
import test from 'node:test';
import { Authority } from '../src/demo/authority.ts';
import { closedPort } from './support/backend.ts';
import { startNginx } from './support/nginx.ts';
import { ServedSite } from './support/served-site.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/** The real program before the servers that stand behind proxies in the world, each installed from Debian. */

const limit = { timeout: 60_000 };

test('nginx with TLS: verified with an authority of its own, which may change', { ...needs('curl', 'nginx'), ...limit }, async (t) => {
  const site = await Site.create(t);
  const [backends, others] = [await Authority.root('Backends'), await Authority.root('Others')];
  await site.write('app', await backends.issue({ names: ['app.internal'] }));
  const { host } = new URL(await closedPort());
  await site.use(
    startNginx(
      site.folder,
      `server {
        listen ${host} ssl;
        ssl_certificate ${site.file('app.pem')};
        ssl_certificate_key ${site.file('app.key')};
        ssl_protocols TLSv1.3;
        location / { return 200 "$ssl_server_name $ssl_protocol resumed=$ssl_session_reused host=$http_host"; }
      }`,
    ),
  );
  const put = async (pem: string): Promise<void> => {
    await writeFile(site.file('ca.new'), pem);
    await rename(site.file('ca.new'), site.file('ca.pem'));
  };
  await put(backends.pem);
  const route = { path: '/', backends: [`https://${host}`], backend_tls: { ca: 'ca.pem', server_name: 'app.internal' } };
  const server = await ServedSite.start(t, { 'app.test': { routes: [route] } }, {}, site);
  const url = 'https://app.test/';
  assert.equal(await server.get(url), 'app.internal TLSv1.3 resumed=. host=app.test');

  let from = server.program.log.length;
  await put(others.pem);
  await server.program.line(/ configuration reloaded/, from);
  assert.equal(await server.get('-o', '/dev/null', '-w', '%{http_code}', url), '502');
  assert.match(
    await server.program.line(/code=backend_tls/, from),
    new RegExp(
      `the TLS handshake with the backend failed.* backend=https://${host} .*backend_tls\\.ca.*the authority that issued its certificate is not known`,
    ),
  );

  from = server.program.log.length;
  await put('nonsense');
  assert.match(await server.program.line(/code=backend_tls_file/, from), /ca\.pem cannot be used \(.*backend_tls\.ca\), what was read before stays in force/);
  await server.program.line(/ configuration reloaded/, from);

  from = server.program.log.length;
  await put(backends.pem);
  await server.program.line(/ configuration reloaded/, from);
  assert.match(await server.get(url), /^app\.internal /);
});
