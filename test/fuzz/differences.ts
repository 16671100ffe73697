import { METHODS } from 'node:http';
import type { ProxyErrorCode } from '../../src/proxy/proxy-error.ts';
import type { Message } from './reading.ts';

/** Where our reading and that of llhttp (9.x, as node:http sets it) differ on purpose, and why. */

interface Rule {
  name: string;
  reason: string;
  /**
   * Whether the rule speaks of a message, or of what comes behind it.
   * @param message as the one read it who accepts it
   * @param text the connection from its first byte on, as latin1
   */
  applies: (message: Message, text: string) => boolean;
}

interface StricterRule extends Rule {
  /** What we say of a request; of any response it is backend_bad_response. */
  code: ProxyErrorCode;
}

export interface Differences {
  /** What is accepted by llhttp and refused by us. */
  stricter: StricterRule[];
  /** What is accepted by us and refused by llhttp. */
  wider: Rule[];
  /** Messages that both read alike, and of which they disagree whether another one follows. */
  followed: Rule[];
}

function values(message: Message, key: string): string[] {
  return message.fields.filter((_, i) => i % 2 === 1 && message.fields[i - 1]?.toLowerCase() === key);
}

function options(message: Message): string[] {
  return values(message, 'connection').flatMap((value) => value.split(',').map((option) => option.trim().toLowerCase()));
}

const [METHOD, TARGET, VERSION] = [0, 1, 2];
const STATUS = 1;

function part(message: Message, index: number): string {
  return message.start.split(' ')[index] ?? '';
}

const EXTENSIONS = /^(?:;[\w!#$%&'*+.^`|~-]+(?:=(?:[\w!#$%&'*+.^`|~-]+|"(?:[^"\\]|\\.)*"))?)*$/;

/** How long a message is: of requests and of responses. */
const framing: StricterRule[] = [
  {
    name: 'Transfer-Encoding on HTTP/1.0',
    code: 'bad_framing',
    reason: 'RFC 9112, 6.1: faulty; readers of 1.0 do not know it and end the message elsewhere',
    applies: (message) => message.start.includes('HTTP/1.0') && values(message, 'transfer-encoding').length > 0,
  },
  {
    name: 'safe length',
    code: 'bad_framing',
    reason: 'Beyond 2^53 a number is not counted exactly',
    applies: (message) => Number(values(message, 'content-length')) > Number.MAX_SAFE_INTEGER,
  },
  {
    name: 'exactly chunked',
    code: 'unsupported_transfer_coding',
    reason: 'Lists of codings are read differently, and no client sends one (RFC 9112, 7: others may be answered with 501)',
    applies: (message) => values(message, 'transfer-encoding').join().toLowerCase() !== 'chunked',
  },
  {
    name: 'tab beside framing',
    code: 'bad_field',
    reason: 'A known disguise: see engine/field-lines',
    applies: (_message, text) => /^(?:content-length|transfer-encoding):.*\t/im.test(text),
  },
  {
    name: 'digits of a chunk size',
    code: 'bad_request',
    reason: 'At most 16, and a number that is counted exactly',
    applies: (_message, text) => /\n0*[0-9a-f]{14,}|\n[0-9a-f]{17,}/i.test(text),
  },
  {
    name: 'extensions',
    code: 'bad_request',
    reason: 'RFC 9112, 7.1.1 has names before values, and values where an equals sign is',
    applies: (_message, text) => Array.from(text.matchAll(/\n[0-9a-f]+(;[^\r\n]*)/gi)).some(([, extensions = '']) => !EXTENSIONS.test(extensions)),
  },
];

export const requestDifferences: Differences = {
  stricter: [
    ...framing,
    {
      name: 'version',
      code: 'bad_version',
      reason: 'RFC 9112, 2.3: only 1.0 and 1.1 have this syntax. Nobody sends 0.9 or 2.0 in a request line but to confuse',
      applies: (message) => !['HTTP/1.0', 'HTTP/1.1'].includes(part(message, VERSION)),
    },
    {
      name: 'no version',
      code: 'bad_request',
      reason: 'The simple request of HTTP/0.9 has no fields, so its end is where its reader thinks',
      applies: (message, text) => part(message, VERSION) === 'HTTP/0.9' && !/^[^\r\n]* HTTP\//.test(text.trimStart()),
    },
    {
      name: 'another protocol',
      code: 'bad_request',
      reason: 'llhttp takes RTSP and ICE with any method',
      applies: (_message, text) => /^[\r\n]*[^ ]+ [^ ]+ (?:RTSP|ICE)\//.test(text),
    },
    {
      name: 'blanks in the request line',
      code: 'bad_request',
      reason: 'RFC 9112, 3 has exactly one; a reader that splits at each finds another target',
      applies: (_message, text) => /^[\r\n]*[^ \r\n]+(?: {2}| [^ \r\n]+ {2})/.test(text),
    },
    {
      name: 'empty lines',
      code: 'bad_request',
      reason: 'RFC 9112, 2.2 wants at least one to be ignored. Without a bound they could be sent for ever; a bare CR or LF is no line end',
      applies: (_message, text) => !/^(?:\r\n){0,2}[^\r\n]/.test(text),
    },
    {
      name: 'one valid Host',
      code: 'bad_host',
      reason: 'RFC 9112, 3.2 and 3.3: who routes by the first of two, or by a list, routes differently from who takes the last',
      applies: (message) => {
        const hosts = values(message, 'host');
        const [, authority = hosts[0]] = /^https?:\/\/([^/?]*)/i.exec(part(message, TARGET)) ?? [];
        return hosts.length !== 1 || !/^[a-z.]+(?::\d*)?$/.test(hosts[0] ?? '') || authority?.toLowerCase() !== hosts[0];
      },
    },
    {
      name: 'target',
      code: 'bad_target',
      reason: 'RFC 9112, 3.2: a path, an http URL without userinfo, or * for OPTIONS; a fragment is cut off by some',
      applies: (message) => !/^(?:\/|https?:\/\/[a-z.]+([/?]|$))[^#]*$/i.test(part(message, TARGET)),
    },
    {
      name: 'method',
      code: 'method_not_allowed',
      reason: 'A reverse proxy is no tunnel, and TRACE shows what proxies in front have added',
      applies: (message) => ['CONNECT', 'TRACE'].includes(part(message, METHOD)),
    },
    {
      name: 'Expect',
      code: 'expectation_failed',
      reason: 'RFC 9110, 10.1.1: what is not 100-continue cannot be promised',
      applies: (message) => values(message, 'expect').some((value) => value.toLowerCase() !== '100-continue'),
    },
  ],
  wider: [
    {
      name: 'methods',
      reason: 'RFC 9110, 9.1: any token is a method; llhttp has a list',
      applies: (message) => !METHODS.includes(part(message, METHOD)),
    },
  ],
  followed: [
    {
      name: 'Proxy-Connection',
      reason: 'RFC 9112, C.2.2: never a standard; llhttp takes it for Connection',
      applies: (message) => values(message, 'proxy-connection').length > 0,
    },
    {
      name: 'close and keep-alive',
      reason: 'RFC 9112, 9.3: close wins, on HTTP/1.0 too',
      applies: (message) => options(message).includes('close') && options(message).includes('keep-alive'),
    },
    {
      name: 'Connection in trailers',
      reason: 'RFC 9110, 6.5.1: nothing behind the body controls the connection; llhttp obeys',
      applies: (message) => message.trailers.some((name, i) => i % 2 === 0 && name.toLowerCase() === 'connection'),
    },
    {
      name: 'Upgrade',
      reason: 'RFC 9110, 7.8: a server may ignore it and go on; llhttp stops behind the request, and node:http with it',
      applies: (message) => options(message).includes('upgrade') && values(message, 'upgrade').length > 0,
    },
  ],
};

const responseRules: Rule[] = [
  {
    name: 'version of a response',
    reason: 'RFC 9112, 2.3: only 1.0 and 1.1 have this syntax',
    applies: (_message, text) => !/^[\r\n]*HTTP\/1\.[01] /.test(text),
  },
  {
    name: 'empty lines before a response',
    reason: 'RFC 9112, 2.2 allows them before requests only; bytes before an answer belong to no answer',
    applies: (_message, text) => /^[\r\n]/.test(text),
  },
  {
    name: 'status',
    reason: 'RFC 9110, 15: 100 to 599; and nobody has asked for a 101',
    applies: (message) => !/^(?:[2-5]|1(?!01))\d\d$/.test(part(message, STATUS)),
  },
  {
    name: 'reason',
    reason: 'RFC 9112, 4: no control bytes; they would go on to the client',
    applies: (_message, text) => /^[^\r\n]*[\0-\x08\x0b-\x1f\x7f]/.test(text.replace(/\r\n.*/s, '')),
  },
  {
    name: 'framing in trailers',
    reason: 'RFC 9110, 6.5.1 forbids it; of requests llhttp refuses it, too',
    applies: (message) => message.trailers.some((name, i) => i % 2 === 0 && /^(?:content-length|transfer-encoding)$/i.test(name)),
  },
  ...framing,
];

export const responseDifferences: Differences = {
  stricter: responseRules.map((rule) => ({ ...rule, code: 'backend_bad_response' })),
  wider: [
    {
      name: 'framing of an interim response',
      reason: 'RFC 9110, 8.6 and RFC 9112, 6.1: it has no content; we drop the fields unread',
      applies: (message) => part(message, STATUS).startsWith('1') && [...values(message, 'content-length'), ...values(message, 'transfer-encoding')].length > 0,
    },
  ],
  followed: [
    {
      name: 'interim responses',
      reason: 'RFC 9110, 15.2: the final one always follows; llhttp obeys a Connection field in them, and waits for no other on HTTP/1.0',
      applies: (message) => part(message, STATUS).startsWith('1'),
    },
  ],
};
