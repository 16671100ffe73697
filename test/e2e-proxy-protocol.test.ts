import assert from 'node:assert/strict';
import * as net from 'node:net';
import test from 'node:test';
import * as tls from 'node:tls';
import { closedPort } from './support/backend.ts';
import { RawClient } from './support/front.ts';
import { startHaproxy } from './support/haproxy.ts';
import { startNginx } from './support/nginx.ts';
import { Site } from './support/site.ts';
import { needs } from './support/tools.ts';

/** PROXY headers to backends that know them. */

async function backends(site: Site): Promise<Record<string, { secure: string; plain: string }>> {
  const issued = await site.issue('', { names: ['nginx.test', 'haproxy.test'] });
  await site.write('app', issued);
  const [secure, plain] = [new URL(await closedPort()).host, new URL(await closedPort()).host];
  const server = (listen: string): string => `server {
    listen ${listen} proxy_protocol;
    ssl_certificate ${site.file('app.pem')};
    ssl_certificate_key ${site.file('app.key')};
    location / { return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port"; }
  }`;
  await site.use(startNginx(site.folder, server(`${secure} ssl`) + server(plain)));
  return { 'nginx.test': { secure, plain }, 'haproxy.test': await site.use(startHaproxy(site.folder, issued.chainPem + issued.keyPem)) };
}

for (const way of ['passthrough', 'HTTP', 'HTTPS'] as const) {
  test(`nginx and HAProxy learn who the client is, also behind another proxy (${way})`, { timeout: 60_000, ...needs('nginx', 'haproxy') }, async (t) => {
    const site = await Site.create(t);
    const known = await backends(site);
    const certificates = [{ certificate: 'app.pem', key: 'app.key' }];
    for (const version of ['v1', 'v2']) {
      const hosts = Object.entries(known).map(([name, { secure, plain }]) => {
        const routes = {
          passthrough: { backends: [`tcp://${secure}`] },
          HTTP: { backends: [`http://${plain}`] },
          HTTPS: { backends: [`https://${secure}`], backend_tls: { ca: site.ca, server_name: name } },
        };
        return { server_name: name, ...(way === 'passthrough' ? { tls: way } : { certificates }), routes: [{ ...routes[way], proxy_protocol: version }] };
      });
      const program = await site.serving({
        listen: [
          { address: '127.0.0.1:0' },
          { address: '[::1]:0' },
          { address: `unix:${site.file('in.sock')}` },
          { address: `unix:${site.file('proxied.sock')}`, proxy_protocol: true },
        ],
        shutdown_grace: '1s',
        virtual_hosts: hosts,
      });
      const ports = { '127.0.0.1': program.port('https'), '::1': program.port('https', '[::1]') };

      /** What the backend says of the client, and the client's own port. */
      const said = async (name: string, where: { host: string; port: number } | { path: string }, first = ''): Promise<{ told: string[]; port: string }> => {
        const raw = net.connect(where);
        raw.write(first);
        const socket = tls.connect({ socket: raw, servername: name, ca: site.root.pem, ALPNProtocols: ['http/1.1'] });
        socket.write(`GET / HTTP/1.1\r\nHost: ${name}\r\nConnection: close\r\n\r\n`);
        const text = await new RawClient(socket).toEnd();
        assert.match(text, /^HTTP\/1\.1 200 /);
        return { told: text.slice(text.indexOf('\r\n\r\n') + 4).split(' '), port: String(raw.localPort) };
      };

      for (const name of Object.keys(known)) {
        for (const [host, port] of Object.entries(ports)) {
          const { told, port: own } = await said(name, { host, port });
          assert.deepEqual(told.slice(0, 4), [host, own, host, String(port)], `${name} ${version}`);
          // PP2_TYPE_AUTHORITY; over HTTP there is Host.
          if (name === 'haproxy.test') assert.equal(told[4], version === 'v2' && way === 'passthrough' ? name : '');
        }
        const proxied = await said(name, { path: site.file('proxied.sock') }, 'PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\n');
        assert.deepEqual(proxied.told.slice(0, 4), ['192.0.2.7', '5000', '198.51.100.1', '443']);
        // Who comes through a unix socket has no address: HAProxy then goes by the connection, nginx by nothing.
        const unix = await said(name, { path: site.file('in.sock') });
        assert.equal(unix.told[0], name === 'haproxy.test' ? '127.0.0.1' : '');
      }
      await program.stop();
    }
  });
}
