import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { execute } from './program.ts';

/** A browser's certificate store is a database of NSS. */
async function trusting(folder: string, ca: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const args of [
    ['-N', '--empty-password'],
    ['-A', '-n', 'root', '-t', 'C,,', '-i', ca],
  ]) {
    const { code, stderr } = await execute('certutil', ['-d', `sql:${folder}`, ...args]);
    assert.equal(code, 0, stderr);
  }
}

/** Opens a page, at most for as long as its pictures take. */
export const browsers: Record<string, (url: string, home: string, ca: string) => Promise<unknown>> = {
  chromium: async (url, home, ca) => {
    await trusting(`${home}/.pki/nssdb`, ca);
    const quiet = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking'];
    const network = ['--no-proxy-server', '--host-resolver-rules=MAP * 127.0.0.1', `--user-data-dir=${home}/profile`];
    return execute('chromium', [...quiet, ...network, '--dump-dom', url], { env: { ...process.env, HOME: home } });
  },
  'firefox-esr': async (url, home, ca) => {
    await trusting(`${home}/profile`, ca);
    const preferences = { 'network.dns.forceResolve': '127.0.0.1', 'network.proxy.type': 0, 'network.captive-portal-service.enabled': false };
    const lines = Object.entries(preferences).map(([key, value]) => `user_pref('${key}', ${JSON.stringify(value)});\n`);
    await writeFile(`${home}/profile/user.js`, lines.join(''));
    const args = ['--headless', '--no-remote', '--profile', `${home}/profile`, '--screenshot', `${home}/page.png`, url];
    return execute('firefox-esr', args, { env: { ...process.env, HOME: home } });
  },
};
