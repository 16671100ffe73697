import assert from 'node:assert/strict';
import test from 'node:test';
import { nameText } from '../src/ocsp/distinguished-name.ts';
import { refusal, tlv } from './support/ocsp-material.ts';

const attribute = (oid: string, tag: number, value: Uint8Array): Buffer => tlv(0x30, tlv(0x06, Buffer.from(oid, 'hex')), tlv(tag, value));
const name = (...attributes: Buffer[]): Buffer => tlv(0x30, ...attributes.map((one) => tlv(0x31, one)));

test('a name is written in its own order, with the usual short names, in every kind of string', () => {
  const text = nameText(
    name(
      attribute('550406', 0x13, Buffer.from('AT')),
      attribute('55040a', 0x0c, Buffer.from('Grüße, GmbH')),
      attribute('55040b', 0x14, Buffer.from('Prüf', 'latin1')),
      attribute('550403', 0x1e, Buffer.from('\u0416A', 'utf16le').swap16()),
      attribute('2a03', 0x0c, Buffer.from('a=b')),
    ),
  );
  assert.equal(text, 'C=AT, O=Grüße\\, GmbH, OU=Prüf, CN=ЖA, 1.2.3=a\\=b');
});

test('what is no name is malformed', () => {
  for (const bytes of [Buffer.of(), tlv(0x30, tlv(0x31, tlv(0x30))), tlv(0x30, tlv(0x31, tlv(0x05)))]) refusal(() => nameText(bytes), 'malformed');
});
