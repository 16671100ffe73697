import { contentLength, TOKEN, type Field } from '../proxy/headers.ts';

/**
 * What the rules of HTTP/2 say of a field, by its name and value alone (RFC 9113, 8.2 and 8.3). Decided once for each field
 * that is decoded, and not again when the other side sends its index.
 */
export const Role = {
  REGULAR: 0,
  METHOD: 1,
  PATH: 2,
  SCHEME: 3,
  AUTHORITY: 4,
  PROTOCOL: 5,
  HOST: 6,
  CONTENT_LENGTH: 7,
  COOKIE: 8,
  /** Of a field that no request has, those from here on. */
  MALFORMED: 9,
  STATUS: 10,
} as const;
export type Role = (typeof Role)[keyof typeof Role];

/** A field as HPACK knows it. */
export interface HeaderField extends Field {
  readonly role: Role;
  /** RFC 7541, 4.1. */
  readonly size: number;
  readonly isSensitive: boolean;
}

/** Neither malformed nor a pseudo-header field. */
export function isRegular(role: Role): boolean {
  return role === Role.REGULAR || (role >= Role.HOST && role <= Role.COOKIE);
}

/** The fields of one header block. */
export interface HeaderList {
  fields: HeaderField[];
  /** Decoded bytes (RFC 9113, 6.5.2), also of fields that were not kept. */
  size: number;
  /** RFC 9113, 6.5.2: beyond what was allowed, fields were read but not kept. */
  isTooLarge: boolean;
}

/** @param name and value as they were sent, each character a byte */
export function headerField(name: string, value: string, isSensitive = false): HeaderField {
  return { name, value, key: name, role: roleOf(name, value), size: name.length + value.length + 32, isSensitive };
}

const UPPER_CASE = /[A-Z]/;
/** RFC 9113, 8.2.1: no control bytes, and no blanks at either end. */
const VALUE = /^(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?$/;
const SCHEME = /^[A-Za-z][A-Za-z0-9+.-]*$/;
/** `*` is for OPTIONS only. */
const PATH = /^(?:\/[\x21-\x7e]*|\*)$/;
/** RFC 3986, 3.2, without the userinfo that RFC 9113, 8.3.1 forbids. Whether it is host[:port] is looked at later. */
const AUTHORITY = /^[\w.~!$&'()*+,;=%:[\]-]+$/;
const STATUS = /^[1-5]\d\d$/;
/** RFC 9113, 8.2.2. */
const OF_CONNECTIONS = new Set(['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade']);

function roleOf(name: string, value: string): Role {
  return name.startsWith(':') ? pseudoRole(name, value) : regularRole(name, value);
}

function pseudoRole(name: string, value: string): Role {
  if (name === ':method') return TOKEN.test(value) ? Role.METHOD : Role.MALFORMED;
  if (name === ':path') return PATH.test(value) ? Role.PATH : Role.MALFORMED;
  if (name === ':scheme') return SCHEME.test(value) ? Role.SCHEME : Role.MALFORMED;
  if (name === ':authority') return AUTHORITY.test(value) ? Role.AUTHORITY : Role.MALFORMED;
  if (name === ':status') return STATUS.test(value) ? Role.STATUS : Role.MALFORMED;
  if (name === ':protocol') return TOKEN.test(value) ? Role.PROTOCOL : Role.MALFORMED;
  return Role.MALFORMED;
}

function regularRole(name: string, value: string): Role {
  if (!TOKEN.test(name) || UPPER_CASE.test(name) || !VALUE.test(value) || OF_CONNECTIONS.has(name)) return Role.MALFORMED;
  if (name === 'te') return value.toLowerCase() === 'trailers' ? Role.REGULAR : Role.MALFORMED;
  if (name === 'host') return AUTHORITY.test(value) ? Role.HOST : Role.MALFORMED;
  if (name === 'content-length') return contentLength(value) === undefined ? Role.MALFORMED : Role.CONTENT_LENGTH;
  return name === 'cookie' ? Role.COOKIE : Role.REGULAR;
}
