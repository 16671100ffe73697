import { readDer, Tag } from './der.ts';
import type { DerNode } from './der.ts';
import { Fields, oid } from './der-fields.ts';

const shortNames: Record<string, string> = {
  '2.5.4.3': 'CN',
  '2.5.4.5': 'serialNumber',
  '2.5.4.6': 'C',
  '2.5.4.7': 'L',
  '2.5.4.8': 'ST',
  '2.5.4.9': 'street',
  '2.5.4.10': 'O',
  '2.5.4.11': 'OU',
  '2.5.4.97': 'organizationIdentifier',
  '0.9.2342.19200300.100.1.25': 'DC',
};

const BMP_STRING = 0x1e;
const UTF8_STRING = 0x0c;

/**
 * A Name for people, in the order in which it is written in the certificate: `C=AT, O=Example, CN=Example CA`. For display only:
 * names are compared as DER.
 *
 * @throws {OcspRefusal} `malformed`
 */
export function nameText(name: Uint8Array): string {
  const parts = readDer(name).children.flatMap((rdn) => rdn.children.map(attributeText));
  return parts.join(', ');
}

function attributeText(node: DerNode): string {
  const fields = new Fields(node, 'a Name');
  const type = oid(fields.take(Tag.oid, 'type'));
  const value = fields.any();
  const text = value === undefined ? '' : stringText(value);
  return `${shortNames[type] ?? type}=${text.replace(/[,+"\\<>;=]/g, '\\$&')}`;
}

function stringText({ tag, content }: DerNode): string {
  if (tag === BMP_STRING) return new TextDecoder('utf-16be').decode(content);
  return content.toString(tag === UTF8_STRING ? 'utf8' : 'latin1');
}
