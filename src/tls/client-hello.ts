import { Alert, TlsAlert } from './alert.ts';

/** What a ClientHello offers, as far as the choice of a virtual host and a key type needs it. GREASE values are left out. */
export interface ClientHello {
  /** Lower case, without a trailing dot. */
  serverName: string | undefined;
  /** Protocol versions: 0x0301 is TLS 1.0, 0x0304 is TLS 1.3. */
  versions: number[];
  cipherSuites: number[];
  /** Absent from clients older than TLS 1.2. */
  signatureAlgorithms: number[] | undefined;
  groups: number[];
  applicationProtocols: string[];
  statusRequest: boolean;
}

/** Post-quantum key shares and padding stay below 4 KB; nothing honest comes near this. */
export const maxHelloSize = 32 * 1024;

/** Each segment is read from the start again, so tiny records would make that costly; honest clients send one or two. */
const maxRecords = 1024;

const extensionType = { serverName: 0, statusRequest: 5, groups: 10, signatureAlgorithms: 13, applicationProtocols: 16, versions: 43 };

function malformed(why: string, alert: number = Alert.decodeError): TlsAlert {
  return new TlsAlert(alert, 'hello_malformed', why);
}

/** RFC 8701: servers must ignore these reserved values, 0x0a0a, 0x1a1a … 0xfafa. */
function isGrease(value: number): boolean {
  return (value & 0x0f0f) === 0x0a0a && value >> 8 === (value & 0xff);
}

/**
 * Reads big-endian numbers and length-prefixed vectors (RFC 8446, 3); running past the end is a decode_error. Vectors are
 * positions in the one buffer: a Buffer for each of them cost twice as much as all the rest.
 */
class Reader {
  readonly #bytes: Buffer;
  readonly #end: number;
  #offset: number;

  constructor(bytes: Buffer, offset = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#offset = offset;
    this.#end = end;
  }

  get done(): boolean {
    return this.#offset === this.#end;
  }

  /** @returns where what is passed over begins */
  skip(length: number): number {
    const start = this.#offset;
    if (length > this.#end - start) throw malformed('a ClientHello field runs past the end');
    this.#offset = start + length;
    return start;
  }

  /** All that is left, each octet a character. */
  text(): string {
    return this.#bytes.toString('latin1', this.skip(this.#end - this.#offset), this.#end);
  }

  number(octets: number): number {
    let value = 0;
    for (let at = this.skip(octets); at < this.#offset; at += 1) value = value * 256 + this.#bytes[at]!;
    return value;
  }

  part(length: number): Reader {
    return new Reader(this.#bytes, this.skip(length), this.#offset);
  }

  vector(lengthOctets: number): Reader {
    return this.part(this.number(lengthOctets));
  }

  /** A vector with something in it, and nothing behind it. */
  onlyVector(lengthOctets: number): Reader {
    const vector = this.vector(lengthOctets);
    if (vector.done) throw malformed('an empty list in a ClientHello');
    this.end();
    return vector;
  }

  /** RFC 8446, 6.2: a length that is not that of what it stands before is a decode_error. */
  end(): void {
    if (!this.done) throw malformed('bytes left over in a ClientHello');
  }

  /** All that is left, but for GREASE. */
  numbers(octets: number): number[] {
    const values: number[] = [];
    while (!this.done) {
      const value = this.number(octets);
      if (!isGrease(value)) values.push(value);
    }
    return values;
  }
}

/**
 * Puts together the handshake message from the records it came in.
 * A ClientHello may be split at any octet, over segments and over records (RFC 8446, 5.1).
 */
function handshakeMessage(bytes: Buffer): Buffer | undefined {
  const fragments: Buffer[] = [];
  let have = 0;
  let need = 4; // type and length, until the length is known
  for (let offset = 0; offset < bytes.length;) {
    if (bytes[offset] !== 22) throw malformed('a record that is not a handshake record', Alert.unexpectedMessage);
    if (offset + 1 < bytes.length && bytes[offset + 1] !== 3) throw malformed('a record that is not TLS', Alert.protocolVersion);
    if (offset + 5 > bytes.length) return undefined;
    const length = bytes.readUInt16BE(offset + 3);
    if (length === 0) throw malformed('an empty record');
    if (length > 16_384) throw malformed(`a record of ${length} bytes`, Alert.recordOverflow); // RFC 8446, 5.1
    const fragment = bytes.subarray(offset + 5, offset + 5 + length);
    fragments.push(fragment);
    if (fragments.length > maxRecords) throw malformed(`a ClientHello in more than ${maxRecords} records`);
    have += fragment.length;
    offset += 5 + length;

    if (have > 0 && fragments[0]![0] !== 1) throw malformed('the first message is not a ClientHello', Alert.unexpectedMessage);
    if (have < need) continue;
    const message = fragments.length === 1 ? fragment : Buffer.concat(fragments);
    need = 4 + message.readUIntBE(1, 3);
    if (need > maxHelloSize) throw new TlsAlert(Alert.decodeError, 'hello_too_large', `a ClientHello of ${need} bytes`);
    if (have >= need) return message.subarray(4, need);
  }
  return undefined;
}

function hostName(list: Reader): string | undefined {
  let name: string | undefined;
  while (!list.done) {
    const type = list.number(1);
    const value = list.vector(2);
    if (type !== 0) continue;
    if (name !== undefined) throw malformed('two host names in server_name', Alert.illegalParameter); // RFC 6066, 3
    const text = value.text();
    if (!/^[\x21-\x7e]{1,255}$/.test(text)) throw malformed('a server_name that is not a host name');
    name = text.toLowerCase().replace(/\.$/, '');
  }
  return name;
}

function protocolNames(list: Reader): string[] {
  const names: string[] = [];
  while (!list.done) names.push(list.vector(1).text());
  if (names.includes('')) throw malformed('an application protocol without a name'); // RFC 7301, 3.1
  return names;
}

/** A client that does not name the versions it offers (supported_versions) offers every one up to this (RFC 5246, E.1). */
function versionsUpTo(highest: number): number[] {
  return [0x0303, 0x0302, 0x0301].filter((version) => version <= highest);
}

const noExtensions = { serverName: undefined, signatureAlgorithms: undefined, groups: [], applicationProtocols: [], statusRequest: false };

/**
 * The hello of clients that could speak SSL 2.0 as well, such as Java 6: in a record of its own kind, with cipher suites
 * of three octets and no extensions (RFC 5246, E.2). A client that speaks nothing newer is refused (RFC 6176).
 */
function readVersion2Hello(bytes: Buffer): ClientHello | undefined {
  if (bytes.length > 2 && bytes[2] !== 1) throw malformed('the first message is not a ClientHello', Alert.unexpectedMessage);
  if (bytes.length > 3 && bytes[3] !== 3) throw new TlsAlert(Alert.protocolVersion, 'sslv2_hello', 'a client of SSL 2.0');
  if (bytes.length < 2) return undefined;
  const end = 2 + (bytes.readUInt16BE(0) & 0x7fff);
  if (bytes.length < end) return undefined;
  const reader = new Reader(bytes, 3, end);
  const version = reader.number(2);
  const [suites, session, challenge] = [reader.number(2), reader.number(2), reader.number(2)];
  const specs = reader.part(suites).numbers(3);
  reader.skip(session + challenge);
  reader.end();
  return {
    ...noExtensions,
    versions: versionsUpTo(version),
    cipherSuites: specs.filter((spec) => spec <= 0xffff), // the others are of SSL 2.0
  };
}

/**
 * Reads a ClientHello (RFC 8446, 4.1.2; RFC 5246, 7.4.1.2) from the first bytes of a connection.
 * @returns undefined while more bytes are needed.
 * @throws TlsAlert when these bytes can never become an acceptable ClientHello.
 */
export function readClientHello(bytes: Buffer): ClientHello | undefined {
  if (bytes.length > 0 && bytes[0]! >= 0x80) return readVersion2Hello(bytes);
  const message = handshakeMessage(bytes);
  if (!message) {
    if (bytes.length > maxHelloSize) throw new TlsAlert(Alert.decodeError, 'hello_too_large', `no complete ClientHello in ${bytes.length} bytes`);
    return undefined;
  }
  const reader = new Reader(message);
  const legacyVersion = reader.number(2);
  reader.skip(32); // random
  reader.vector(1); // legacy_session_id
  const cipherSuites = reader.vector(2).numbers(2);
  reader.vector(1); // legacy_compression_methods
  const extensions = reader.done ? reader : reader.vector(2); // clients before TLS 1.2 may have none
  reader.end();

  const hello: ClientHello = { ...noExtensions, versions: [], cipherSuites };
  const seen = new Set<number>();
  while (!extensions.done) {
    const type = extensions.number(2);
    const body = extensions.vector(2);
    if (seen.has(type)) throw malformed(`extension ${type} twice`, Alert.illegalParameter); // RFC 8446, 4.2
    seen.add(type);
    if (type === extensionType.serverName) hello.serverName = hostName(body.onlyVector(2));
    else if (type === extensionType.statusRequest) hello.statusRequest = body.number(1) === 1; // ocsp; another type is no error
    else if (type === extensionType.groups) hello.groups = body.onlyVector(2).numbers(2);
    else if (type === extensionType.signatureAlgorithms) hello.signatureAlgorithms = body.onlyVector(2).numbers(2);
    else if (type === extensionType.versions) hello.versions = body.onlyVector(1).numbers(2);
    else if (type === extensionType.applicationProtocols) hello.applicationProtocols = protocolNames(body.onlyVector(2));
  }
  if (!seen.has(extensionType.versions)) hello.versions = versionsUpTo(legacyVersion);
  return hello;
}
