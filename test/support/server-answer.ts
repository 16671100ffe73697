import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import * as net from 'node:net';

/** How a server takes a ClientHello up: with a ServerHello, or with an alert, or by closing. */
export interface Answer {
  /** As the ServerHello has it: 0x0304 is TLS 1.3. */
  version?: number;
  cipherSuite?: number;
  /** Of the certificate, which TLS 1.3 encrypts. */
  keyType?: string | undefined;
  alert?: number;
}

/** The first handshake messages and alert in the records of these bytes. */
function readAnswer(bytes: Buffer): Answer {
  const answer: Answer = {};
  const fragments: Buffer[] = [];
  for (let at = 0; at + 5 <= bytes.length;) {
    const [type, end] = [bytes[at], at + 5 + bytes.readUInt16BE(at + 3)];
    if (end > bytes.length) break;
    if (type === 21) answer.alert = bytes[at + 6]!;
    if (type === 22) fragments.push(bytes.subarray(at + 5, end));
    if (type !== 22) break;
    at = end;
  }
  const messages = Buffer.concat(fragments);
  for (let at = 0; at + 4 <= messages.length;) {
    const [type, end] = [messages[at], at + 4 + messages.readUIntBE(at + 1, 3)];
    if (end > messages.length) break;
    const body = messages.subarray(at + 4, end);
    if (type === 2) Object.assign(answer, readServerHello(body));
    // Length of the list, then of the first certificate in it.
    if (type === 11) answer.keyType = new X509Certificate(body.subarray(6, 6 + body.readUIntBE(3, 3))).publicKey.asymmetricKeyType;
    at = end;
  }
  return answer;
}

/** RFC 8446, 4.1.3; a HelloRetryRequest is one too. */
function readServerHello(body: Buffer): Pick<Answer, 'version' | 'cipherSuite'> {
  const session = 35 + body[34]!;
  const hello = { version: body.readUInt16BE(0), cipherSuite: body.readUInt16BE(session) };
  for (let at = session + 5; at + 4 <= body.length; at += 4 + body.readUInt16BE(at + 2)) {
    if (body.readUInt16BE(at) === 43) hello.version = body.readUInt16BE(at + 4); // supported_versions
  }
  return hello;
}

/** Sends these bytes to a server on 127.0.0.1, and reads until the answer is clear or the server has closed. */
export async function answerTo(port: number, ...segments: Buffer[]): Promise<Answer> {
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
  socket.on('error', () => {});
  let bytes = Buffer.alloc(0);
  let answer: Answer = {};
  socket.on('data', (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk]);
    answer = readAnswer(bytes);
    if (answer.alert !== undefined || answer.version === 0x0304 || answer.keyType !== undefined) socket.destroy();
  });
  const closed = once(socket, 'close');
  for (const segment of segments) await new Promise((sent) => socket.write(segment, sent));
  await closed;
  return answer;
}
