import assert from 'node:assert/strict';
import test from 'node:test';
import { readProxyHeader } from '../src/tls/proxy-protocol.ts';
import { seeded } from './support/random.ts';

const signature = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
const v2 = (versionCommand: number, family: number, body: Buffer) =>
  Buffer.concat([signature, Buffer.of(versionCommand, family, body.length >> 8, body.length & 0xff), body]);
const ipv4 = v2(0x21, 0x11, Buffer.of(192, 0, 2, 1, 10, 0, 0, 1, 0xdc, 0x04, 1, 0xbb));

const from = (address: string, port: number, to: string, toPort: number) => ({ source: { address, port }, destination: { address: to, port: toPort } });

const good: [what: string, header: Buffer, value: object | undefined][] = [
  ['v1 TCP4', Buffer.from('PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n'), from('192.0.2.1', 56_324, '10.0.0.1', 443)],
  ['v1 TCP6', Buffer.from('PROXY TCP6 2001:0DB8:0::1 ::1 1 443\r\n'), from('2001:db8::1', 1, '::1', 443)],
  ['v1 TCP6 for IPv4', Buffer.from('PROXY TCP6 ::ffff:192.0.2.1 ::FFFF:0a00:1 1 443\r\n'), from('192.0.2.1', 1, '10.0.0.1', 443)],
  ['v1 UNKNOWN', Buffer.from('PROXY UNKNOWN ffff::1 whatever\r\n'), undefined],
  ['v2 TCP over IPv4', ipv4, from('192.0.2.1', 56_324, '10.0.0.1', 443)],
  ['v2 TCP over IPv6', v2(0x21, 0x21, Buffer.from('20010db8000000000000000000000001'.padEnd(64, '0') + '000101bb', 'hex')), from('2001:db8::1', 1, '::', 443)],
  ['v2 with TLVs', v2(0x21, 0x11, Buffer.concat([ipv4.subarray(16), Buffer.of(4, 0, 1, 0)])), from('192.0.2.1', 56_324, '10.0.0.1', 443)],
  ['v2 LOCAL', v2(0x20, 0, Buffer.alloc(0)), undefined],
  ['v2 LOCAL, of a family that nobody knows', v2(0x20, 0xff, Buffer.alloc(12)), undefined],
  ['v2 UDP over IPv4', v2(0x21, 0x12, ipv4.subarray(16)), undefined],
  ['v2 unix', v2(0x21, 0x31, Buffer.alloc(216)), undefined],
];
for (const [what, header, value] of good) {
  test(`${what}: what follows stays, every prefix is incomplete`, () => {
    assert.deepEqual(readProxyHeader(Buffer.concat([header, Buffer.from('GET')])), { value, consumed: header.length });
    for (let length = 1; length < header.length; length++) assert.equal(readProxyHeader(header.subarray(0, length)), undefined);
  });
}

const bad: [what: string, header: Buffer][] = [
  ['no header at all', Buffer.from('GET / HTTP/1.1\r\n')],
  ['a TLS record', Buffer.of(22, 3, 1, 0, 5)],
  ['an address of the other family', Buffer.from('PROXY TCP4 ::1 ::1 1 2\r\n')],
  ['a port over 65535', Buffer.from('PROXY TCP4 192.0.2.1 10.0.0.1 65536 443\r\n')],
  ['another port over 65535', Buffer.from('PROXY TCP4 192.0.2.1 10.0.0.1 1 65536\r\n')],
  ['a port with a heading zero', Buffer.from('PROXY TCP4 192.0.2.1 10.0.0.1 1 0443\r\n')],
  ['an address with a heading zero', Buffer.from('PROXY TCP4 192.0.2.01 10.0.0.1 1 443\r\n')],
  ['two spaces', Buffer.from('PROXY  TCP4 192.0.2.1 10.0.0.1 1 443\r\n')],
  ['a line without end', Buffer.from(`PROXY TCP4 ${'1'.repeat(120)}`)],
  ['version 1 in the binary form', v2(0x11, 0x11, ipv4.subarray(16))],
  ['an unknown command', v2(0x22, 0x11, ipv4.subarray(16))],
  ['an unknown address family', v2(0x21, 0x41, ipv4.subarray(16))],
  ['an unknown transport', v2(0x21, 0x13, ipv4.subarray(16))],
  ['addresses cut short', v2(0x21, 0x11, Buffer.alloc(11))],
  ['a header of 60 KB', Buffer.concat([signature, Buffer.of(0x21, 0x11, 0xea, 0x60)])],
];
for (const [what, header] of bad) test(`refused: ${what}`, () => assert.throws(() => readProxyHeader(header), { code: 'proxy_protocol' }));

test('mutated headers are read, waited for or refused, nothing else', () => {
  const random = seeded(7);
  for (let round = 0; round < 5_000; round++) {
    const mutant = Buffer.from(good[Math.floor(random() * good.length)]![1]);
    mutant[Math.floor(random() * mutant.length)] = Math.floor(random() * 256);
    try {
      readProxyHeader(mutant);
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'proxy_protocol');
    }
  }
});
