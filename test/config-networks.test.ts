import assert from 'node:assert/strict';
import test from 'node:test';
import { networkMatcher, plainAddress } from '../src/config/networks.ts';

test('an address is told as others write it: without a zone of this machine, IPv4 as IPv4', () => {
  const spellings: [socket: string, plain: string][] = [
    ['fe80::1%eth0', 'fe80::1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['2001:db8::1', '2001:db8::1'],
    ['192.0.2.1', '192.0.2.1'],
    ['', ''],
  ];
  for (const [socket, plain] of spellings) assert.equal(plainAddress(socket), plain);
});

test('a network holds its addresses in every spelling, and no other', () => {
  const inside = networkMatcher([
    { address: '10.0.0.0', prefix: 8, family: 'ipv4' },
    { address: 'fe80::', prefix: 10, family: 'ipv6' },
  ]);
  for (const address of ['10.255.0.1', '::ffff:10.0.0.1', 'fe80::1', 'fe80::1%eth0']) assert.equal(inside(address), true, address);
  for (const address of ['11.0.0.1', '::ffff:11.0.0.1', '::1', '2001:db8::1']) assert.equal(inside(address), false, address);
  assert.equal(networkMatcher([])('10.0.0.1'), false);
});
