import { defineConfig } from 'oxlint';

/**
 * Who may import whom. A room is a folder of src/; it may import itself, the rooms listed here and the files directly in
 * src/. Each package has its one door. ARCHITECTURE.md says why.
 */
const rooms: Record<string, { rooms: string[]; packages: string[] }> = {
  config: { rooms: [], packages: ['yaml', 'zod'] },
  certificates: { rooms: ['config'], packages: ['asn1js', 'pkijs', 'chokidar'] },
  ocsp: { rooms: ['config', 'certificates'], packages: ['asn1js', 'pkijs'] },
  tls: { rooms: ['config'], packages: [] },
  proxy: { rooms: ['config'], packages: [] },
  http2: { rooms: ['proxy'], packages: [] },
  engine: { rooms: ['config', 'proxy', 'http2'], packages: ['http-proxy'] },
  worker: { rooms: ['config', 'tls', 'proxy', 'engine'], packages: [] },
  admin: { rooms: ['config', 'ocsp'], packages: [] },
  supervisor: { rooms: ['config', 'certificates', 'ocsp', 'tls', 'admin', 'worker'], packages: [] },
  demo: { rooms: ['config', 'ocsp'], packages: ['asn1js', 'pkijs'] },
  commands: { rooms: ['config', 'certificates', 'ocsp', 'tls', 'proxy', 'http2', 'engine', 'worker', 'admin', 'supervisor', 'demo'], packages: [] },
};
const packages = ['http-proxy', 'pkijs', 'asn1js', 'chokidar', 'yaml', 'zod', 'winston', 'commander'];

function only(allowed: { rooms: string[]; packages: string[] }) {
  const closedRooms = Object.keys(rooms).filter((room) => !allowed.rooms.includes(room));
  const closedPackages = packages.filter((name) => !allowed.packages.includes(name));
  return {
    'no-restricted-imports': [
      'error' as const,
      {
        paths: closedPackages.map((name) => ({ name, message: 'This package has another door: see oxlint.config.ts.' })),
        patterns: closedRooms.map((room) => ({ group: [`../${room}/*`, `./${room}/*`], message: `This room may not import ${room}: see oxlint.config.ts.` })),
      },
    ],
  };
}

export default defineConfig({
  plugins: ['typescript', 'unicorn', 'oxc', 'import', 'node'],
  categories: { correctness: 'error', suspicious: 'error' },
  rules: {
    'no-control-regex': 'off',
    'no-underscore-dangle': 'off',
    'no-shadow': 'off',
    'import/no-cycle': 'error',
    'import/no-unassigned-import': 'off',
    'unicorn/consistent-function-scoping': 'off', // a small function is best read where it is used
    'typescript/require-array-sort-compare': 'off',
    'unicorn/require-post-message-target-origin': 'off', // windows have origins, threads have not
    'unicorn/no-array-sort': 'off',
    'typescript/no-floating-promises': [
      'error',
      { allowForKnownSafeCalls: [{ from: 'package', package: 'node:test', name: ['test', 'it', 'describe', 'suite'] }] },
    ],
    'typescript/no-misused-promises': 'error',
    'typescript/no-explicit-any': 'error',
    'typescript/consistent-type-imports': 'error',
    'typescript/switch-exhaustiveness-check': 'error',
    'typescript/no-unsafe-type-assertion': 'off',
    'typescript/consistent-return': 'off',
  },
  overrides: [
    ...Object.entries(rooms).map(([room, allowed]) => ({ files: [`src/${room}/**`], rules: only({ ...allowed, rooms: [room, ...allowed.rooms] }) })),
    { files: ['src/log.ts'], rules: only({ rooms: [], packages: ['winston'] }) },
    { files: ['src/snapshot.ts', 'src/runtime.ts', 'src/version.ts'], rules: only({ rooms: ['config'], packages: [] }) },
    { files: ['src/commands/ocsp/command.ts'], rules: only({ rooms: Object.keys(rooms), packages: ['commander'] }) },
    { files: ['src/main.ts'], rules: only({ rooms: ['commands'], packages: ['commander'] }) },
  ],
});
