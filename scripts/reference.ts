import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { certificateCodes } from '../src/certificates/certificate-error.ts';
import * as codes from '../src/codes.ts';
import { editorSchema, referencePage } from '../src/config/reference.ts';
import { refusals } from '../src/ocsp/refusal.ts';
import { responderErrors } from '../src/ocsp/responder-error.ts';
import { proxyErrors } from '../src/proxy/proxy-error.ts';

/** Writes docs/configuration.md, docs/config.schema.json and docs/errors.md from the tables in the source (`npm run reference`). */

const introduction = `
# Configuration

<!-- Written by \`npm run reference\` from src/config/schema.ts. Change the schema or scripts/reference.ts, not this page. -->

Staplegate reads one YAML file, named with \`--config\`. The annotated sample is [config.yaml](../config.yaml); the smallest useful file is

\`\`\`yaml
listen:
  - address: 0.0.0.0:443
virtual_hosts:
  - server_name: shop.example.org
    certificates:
      - certificate: /etc/ssl/shop/fullchain.pem
        key: /etc/ssl/shop/privkey.pem
    backends: ["http://127.0.0.1:8080"]
\`\`\`

- Relative file names are relative to the folder of the configuration file.
- A key that Staplegate does not know is an error: a misspelt setting never passes as its default.
- \`staplegate check --config FILE\` reports everything that is wrong, as \`FILE:LINE:COLUMN: KEY: what it must be\`, and changes nothing.
- A running Staplegate reads the file again when it changes, and on SIGHUP. A file with errors is refused as a whole, and the configuration in force stays.
- Addresses in \`listen\` come and go with it. 127.0.0.1:443 can become 0.0.0.0:443, and the reverse, without a connection refused: the new socket listens
  before the old one is closed, and who waits in the queue of that is served first.
- \`tls\` and \`ocsp\` at the top level hold for every virtual host. A virtual host overrides them key by key.
- The file is YAML 1.2: booleans are \`true\` and \`false\` (\`yes\` and \`on\` are text). Put a value in quotes when it begins with \`*\`, \`[\` or another
  character that YAML uses: \`"*.example.org"\`, \`"[::]:443"\`.
- Editors that understand JSON Schema complete and check the keys with [config.schema.json](config.schema.json):
  \`# yaml-language-server: $schema=https://…/config.schema.json\`, or the path of the file, in the first line.
`;

const errorsIntroduction = `# Errors

<!-- Written by \`npm run reference\` from the tables in src/. Change those, not this page. -->

Every error and every warning in the log has a code, as \`code=…\` in text and as a field in JSON. Codes are stable: alerts may rely on them. The message
beside a code names the thing, the cause and the setting.

\`staplegate\` exits with 0 for yes, 1 for no (it could not start, something is wrong, something needs attention) and 2 for wrong usage.
`;

const statuses = Object.entries(proxyErrors).map(([code, [status, meaning]]): [string, string] => [code, `${status}: ${meaning}`]);

/** The tables of docs/errors.md. */
export const errorTables: [title: string, rows: [code: string, meaning: string][]][] = [
  ['Starting', Object.entries(codes.startCodes)],
  ['Running and reloading', Object.entries(codes.supervisorCodes)],
  ['Certificates and keys', Object.entries(certificateCodes)],
  ['OCSP: stapling', Object.entries(codes.staplingCodes)],
  ['OCSP: asking a responder', Object.entries(responderErrors)],
  ['OCSP: refusing a response', Object.entries(refusals)],
  ['OCSP: the disk cache', Object.entries(codes.cacheCodes)],
  ['Connections', Object.entries(codes.connectionCodes)],
  ['Requests, with the status that the client gets', statuses],
  ['Commands', Object.entries(codes.commandCodes)],
];

function errorsPage(): string {
  const sections = errorTables.map(
    ([title, rows]) => `## ${title}\n\n| code | meaning |\n|---|---|\n${rows.map(([code, meaning]) => `| \`${code}\` | ${meaning} |\n`).join('')}`,
  );
  return [errorsIntroduction, ...sections].join('\n');
}

/** Generated files, by their path in the repository. */
export const generated: Record<string, string> = {
  'docs/configuration.md': referencePage(introduction),
  'docs/errors.md': errorsPage(),
  'docs/config.schema.json': `${JSON.stringify(editorSchema(), undefined, 2)}\n`,
};

if (import.meta.main) {
  for (const [path, text] of Object.entries(generated)) await writeFile(fileURLToPath(new URL(`../${path}`, import.meta.url)), text);
}
