import type { Dice } from './dice.ts';

/**
 * Messages that are nearly right. Bytes at random would be refused by everybody at once; what two readers understand differently
 * is one blank, digit or line end away from what both accept.
 */

type Choices = readonly [string, ...string[]];

const METHODS: Choices = ['GET', 'GET', 'GET', 'POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'PATCH', 'PROPFIND', 'M-SEARCH'];
const ODD_METHODS: Choices = ['CONNECT', 'TRACE', 'SOURCE', 'PRI', 'get', 'PURGE', 'BREW', 'G(T', 'G\xe9T', ''];
const TARGETS: Choices = [
  '/',
  '/',
  '/a/b?c=d&e',
  '/%00%2f',
  '//',
  '/../x',
  'http://a.test/',
  'http://A.test?q',
  'https://a.test',
  '/?http://b.test',
  '/"<>\\^`{|}',
];
const ODD_TARGETS: Choices = [
  '*',
  'http://b.test/',
  'http://u@a.test/',
  'http:///',
  'http:/a',
  'ftp://a.test/',
  'a.test:80',
  '/#f',
  '/a?b#',
  '?',
  'a',
  '/\xe9',
  '/a\tb',
  '/\0',
  '/\x7f',
  '',
];
const ODD_VERSIONS: Choices = [
  'HTTP/1.0',
  'HTTP/0.9',
  'HTTP/1.2',
  'HTTP/2.0',
  'HTTP/1.1x',
  'HTTP/01.1',
  'HTTP/1.',
  'HTTP/1',
  'http/1.1',
  'ICE/1.0',
  'RTSP/1.0',
  'HTTP/1.11',
  '',
];
const ODD_BLANKS: Choices = ['  ', '\t', '', '\x0b', '\xa0'];
const ODD_LINE_ENDS: Choices = ['\n', '\r', '\r\r\n', '\n\r', '\r\n\r', ' \r\n', '\0\r\n', '\r\n\r\n'];
const ODD_COLONS: Choices = [':', ':\t', ': \t ', ' : ', '\t:', '', '::', ':\x0b', ':\r\n ', ';'];
const FIELDS: Choices = [
  'X: y',
  `x-long: ${'abc '.repeat(20)}`,
  'Accept: */*',
  'Cookie: a=b; c="d"',
  'X-Empty:',
  'X-Bytes: \xa0\x80\xff',
  'X-Tabs: \ta\tb\t',
  "!#$%&'*+-.^_`|~: token",
  'Connection: keep-alive',
  'Connection: Keep-Alive, x',
  'Connection: x , close',
  'Connection: close',
];
const ODD_FIELDS: Choices = [
  'X Y: blank',
  'X\xe9: obs-text',
  'X: \x01',
  'X: \x7f',
  'X: \0',
  ': no name',
  'no colon',
  ' fold',
  '\tfold',
  'X(: no token',
  'Connection: close, keep-alive',
  'Connection: closed',
  'Connection: x,\xa0close',
  'Connection: "close"',
  'Connection: upgrade\r\nUpgrade: h2c',
  'Connection: Upgrade, HTTP2-Settings',
  'Proxy-Connection: close',
  'Upgrade: websocket',
  'Upgrade: h2c',
];
const REQUEST_FIELDS: Choices = [...FIELDS, 'Expect: 100-continue', 'TE: trailers', 'Trailer: X-Sum'];
const ODD_REQUEST_FIELDS: Choices = [
  ...ODD_FIELDS,
  'Host: a.test',
  'Host: b.test',
  'Expect: something',
  'Expect: 100-continue, x',
  'Content-Length: 5',
  'Content-Length: 0',
  'Transfer-Encoding: chunked',
];
const ODD_HOSTS: Choices = ['', 'a.test,b.test', 'a.test/x', '[::1]:8443', 'u@a.test', 'a test', 'a.test:80', 'a.test:x', 'a.test\x0b'];
const RESPONSE_FIELDS: Choices = [...FIELDS, 'Set-Cookie: a=b', 'Set-Cookie: c=d', 'Server: x', 'Keep-Alive: timeout=5'];
const ODD_INTERIM_FIELDS: Choices = ['Connection: close', 'Content-Length: 5', 'Content-Length: x', 'Transfer-Encoding: chunked', 'Transfer-Encoding: x'];
const ODD_LENGTHS: Choices = [
  '+5',
  '-5',
  '05',
  '5 ',
  '\t5',
  '5,5',
  '5, 5',
  '5 5',
  '0x5',
  '5.0',
  '5e0',
  '5;',
  '5\x0b',
  '',
  '0',
  '00',
  '9007199254740993',
  '18446744073709551621',
];
const ODD_CODINGS: Choices = [
  'gzip',
  'gzip, chunked',
  'chunked, gzip',
  'chunked,',
  ',chunked',
  'chunked, chunked',
  'identity',
  'Chunked',
  ' chunked ',
  'xchunked',
  'chunkedx',
  '',
  '"chunked"',
  'chunked;q=1',
  'chunked\t',
  'c hunked',
  '\x0bchunked',
];
const ODD_SIZES: Choices = ['+', '-', ' ', '0x', '\t', '0000000000000000', '00000000000000', 'ffffffffffffffff', '1fffffffffffff', 'g'];
const EXTENSIONS: Choices = [';a', ';a=b', ';a="b;\\"c"', ';a="\xe9\t"', ';a=""', ';a;b=c'];
const ODD_EXTENSIONS: Choices = [
  ';',
  '; a',
  ' ;a',
  ';a =b',
  ';a="b',
  ';a=b"',
  ';;',
  ';a=',
  ' ',
  '\t',
  ';a="\x01"',
  ';a="\\',
  ';a="\\\x01"',
  ';a\xe9',
  ';a="b"c',
  ';a=,',
  ';a=b=c',
  ',',
];
const TRAILERS: Choices = ['X-Sum: 1', 'x-a:', 'Host: b.test', 'Content-Type: x'];
const ODD_TRAILERS: Choices = ['Content-Length: 5', 'Transfer-Encoding: chunked', 'Connection: close', 'X : y', ' fold', 'X: \x01', 'no colon'];
const ODD_BYTES: Choices = [
  '',
  '\r',
  '\n',
  '\r\n',
  '\0',
  ' ',
  '\t',
  ':',
  ';',
  ',',
  '0',
  '5',
  'a',
  'A',
  '\x7f',
  '\x80',
  '\xa0',
  '\xff',
  '"',
  '\\',
  '\x0b',
  '\r\n\r\n',
  '/',
  '-',
  '_',
];
const ODD_STARTS: Choices = ['\r\n', '\r\n\r\n', '\r\n\r\n\r\n', '\n', '\r', ' '];

function line(dice: Dice, text: string): string {
  return text + dice.odd('\r\n', ODD_LINE_ENDS, 0.01);
}

function fieldLine(dice: Dice, name: string, value: string): string {
  const spelling = dice.pick([name, name, name.toLowerCase(), name.toUpperCase()]);
  return line(dice, dice.odd(spelling, [`${name} `, name.replace('-', '_'), `x${name}`, `\x0b${name}`]) + dice.odd(': ', ODD_COLONS) + value);
}

type Framing = 'none' | 'length' | 'chunked';

/** Fields and body. A body stays as it is when the length or the coding before it is odd: some reader could think that it fits. */
function fieldsAndBody(dice: Dice, framing: Framing, begin: string, fields: Choices, oddFields: Choices): string {
  const lines = [begin];
  for (let count = dice.below(4); count > 0; count -= 1) lines.push(line(dice, dice.odd(dice.pick(fields), oddFields, 0.2)));
  if (framing === 'length') lines.push(fieldLine(dice, 'Content-Length', dice.odd('5', ODD_LENGTHS, 0.3)));
  if (framing === 'chunked') lines.push(fieldLine(dice, 'Transfer-Encoding', dice.odd('chunked', ODD_CODINGS, 0.2)));
  if (framing !== 'none' && dice.fault(0.05)) lines.push(lines.at(-1) ?? '');
  if (dice.chance(0.3)) lines.push(line(dice, dice.odd(dice.pick(fields), oddFields, 0.2)));
  const body = framing === 'length' ? 'abcde' : framing === 'chunked' ? chunkedBody(dice) : '';
  return lines.join('') + line(dice, '') + body;
}

function chunkedBody(dice: Dice): string {
  let text = '';
  const size = (length: number): string => {
    const digits = dice.pick([length.toString(16), `0${length.toString(16).toUpperCase()}`]);
    return line(dice, dice.odd('', ODD_SIZES) + dice.odd(digits, ['', 'g']) + dice.odd(dice.chance(0.2) ? dice.pick(EXTENSIONS) : '', ODD_EXTENSIONS));
  };
  for (let count = dice.below(4); count > 0; count -= 1) {
    const length = dice.pick([1, 5, 16, 200]);
    text += size(length) + line(dice, 'x'.repeat(length));
  }
  text += size(0);
  while (dice.chance(0.2)) text += line(dice, dice.odd(dice.pick(TRAILERS), ODD_TRAILERS, 0.4));
  return text + line(dice, '');
}

/** Some bytes changed, doubled or lost. */
function mutated(dice: Dice, text: string): string {
  let result = text;
  while (dice.fault(0.4)) {
    const at = dice.below(result.length);
    const length = dice.pick([0, 1, 1, 2, 8]);
    result = result.slice(0, at) + (dice.chance(0.2) ? result.slice(at, at + 2 * length).repeat(2) : dice.pick(ODD_BYTES)) + result.slice(at + length);
  }
  return result;
}

/** One to three requests on a connection, some of them repeated, and a good one that shows where the last of them ended. */
export function requests(dice: Dice): string {
  let text = '';
  for (let count = 1 + dice.below(3); count > 0; count -= 1) {
    const framing = dice.pick<Framing>(['none', 'length', 'chunked', 'chunked']);
    const method = dice.odd(dice.pick(METHODS), ODD_METHODS);
    const version = dice.odd(framing !== 'chunked' && dice.chance(0.2) ? 'HTTP/1.0' : 'HTTP/1.1', ODD_VERSIONS);
    const start = line(dice, method + dice.odd(' ', ODD_BLANKS, 0.02) + dice.odd(dice.pick(TARGETS), ODD_TARGETS) + dice.odd(' ', ODD_BLANKS, 0.02) + version);
    const host = dice.fault(0.02) ? '' : fieldLine(dice, 'Host', dice.odd('a.test', ODD_HOSTS));
    const request = start + fieldsAndBody(dice, framing, host, REQUEST_FIELDS, ODD_REQUEST_FIELDS);
    text += dice.odd('', ODD_STARTS) + request.repeat(dice.pick([1, 1, 1, 1, 2]));
  }
  return `${mutated(dice, text)}GET /next HTTP/1.1\r\nHost: next.test\r\n\r\n`;
}

/** A response, perhaps with interim ones before and something behind it. */
export function responses(dice: Dice): string {
  const framing = dice.pick<Framing>(['none', 'length', 'chunked', 'chunked']);
  let text = '';
  while (dice.chance(0.2)) {
    const status = dice.odd(dice.pick(['100 Continue', '103 Early Hints', '102', '199 x']), ['101 Switching Protocols']);
    const version = dice.odd('HTTP/1.1', ['HTTP/1.0']);
    text += line(dice, `${version} ${status}`) + (dice.chance(0.5) ? line(dice, dice.odd('Link: x', ODD_INTERIM_FIELDS, 0.2)) : '') + line(dice, '');
  }
  const version = dice.odd(framing !== 'chunked' && dice.chance(0.2) ? 'HTTP/1.0' : 'HTTP/1.1', [
    'HTTP/1.0',
    'HTTP/1.2',
    'HTTP/2.0',
    'HTTP/2',
    'RTSP/1.0',
    'ICY',
    'http/1.1',
    '\r\nHTTP/1.1',
  ]);
  const status = dice.odd(dice.pick(['200', '200', '200', '204', '304', '404', '599']), ['600', '999', '099', '000', '20', '2000', '20x', '+20']);
  const reason = dice.odd(dice.pick([' OK', '', ' ', ' Not at\tall', ' \xe9']), [' \x01', '  OK', '\tOK', 'OK', ' \x7f', ' \0']);
  text += line(dice, `${version}${dice.odd(' ', ODD_BLANKS)}${status}${reason}`);
  text += fieldsAndBody(dice, framing, '', RESPONSE_FIELDS, [...ODD_FIELDS, 'Content-Length: 5', 'Transfer-Encoding: chunked']);
  return mutated(dice, text) + dice.pick(['', '', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', 'x', '\r\n']);
}
