import { BodyReader } from '../../src/engine/body-reader.ts';
import { findHeadEnd, findResponseHeadEnd } from '../../src/engine/head.ts';
import { RequestScanner } from '../../src/engine/request-scanner.ts';
import { ResponseScanner } from '../../src/engine/response-scanner.ts';
import type { Field } from '../../src/proxy/headers.ts';
import { ProxyError } from '../../src/proxy/proxy-error.ts';
import { parseRequestHead } from '../../src/proxy/request-head.ts';
import type { Message, Reading } from './reading.ts';

/** A reading, and where in the bytes each message begins and the last complete one ends. */
export interface OurReading extends Reading {
  begins: number[];
  end: number;
  /** The end of the last message lies in the bytes, and is not just the end of the connection. */
  bounded: boolean;
}

interface Head {
  end: number;
  start: string;
  fields: string[];
  body: BodyReader;
  /** Another message may follow. */
  goesOn: boolean;
}

/** As Node lists them. */
const flat = (fields: readonly Field[]): string[] => fields.flatMap(({ name, value }) => [name, value]);

/** Reads the requests of a connection as the engine does, segment by segment. */
export function ourRequests(segments: readonly string[]): OurReading {
  const scanner = new RequestScanner();
  return read(segments, (bytes, searched) => {
    const end = findHeadEnd(bytes, searched);
    if (end === -1) return undefined;
    const { method, target, facts } = scanner.scan(bytes, end, () => {});
    const { version, fields, framing } = parseRequestHead(method, target, facts);
    return {
      end,
      start: `${method} ${target} HTTP/${version}`,
      fields: flat(fields),
      body: new BodyReader(framing, 'bad_request'),
      goesOn: facts.persistent,
    };
  });
}

/** Reads one response and the interim ones before it. A body that ends with its connection is complete when the segments end. */
export function ourResponses(segments: readonly string[], method: string): OurReading {
  const scanner = new ResponseScanner();
  return read(segments, (bytes, searched) => {
    const end = findResponseHeadEnd(bytes, searched, false);
    if (end === -1) return undefined;
    const scanned = scanner.scan(bytes, end, false);
    const { version, status, reason, fields } = scanned;
    const isInterim = status >= 100 && status < 200 && status !== 101;
    const delimiter = isInterim ? 'none' : scanner.parse(scanned, method, false).delimiter;
    return {
      end,
      start: `HTTP/${version} ${status} ${reason}`,
      fields: flat(fields),
      body: new BodyReader(delimiter, 'backend_bad_response'),
      goesOn: isInterim,
    };
  });
}

function read(segments: readonly string[], readHead: (bytes: Buffer, searched: number) => Head | undefined): OurReading {
  const reading: OurReading = { messages: [], begins: [0], end: 0, bounded: false };
  let input: Buffer = Buffer.alloc(0);
  let searched = 0;
  let taken = 0;
  let message: Message | undefined;
  let head: Head | undefined;
  const take = (count: number): void => {
    input = input.subarray(count);
    taken += count;
  };
  try {
    for (const segment of segments) {
      input = Buffer.concat([input, Buffer.from(segment, 'latin1')]);
      while (input.length > 0 && (head === undefined || head.goesOn || !message?.complete)) {
        if (!message || !head || message.complete) {
          head = readHead(input, searched);
          searched = head ? 0 : input.length;
          if (!head) break;
          message = { start: head.start, fields: head.fields, body: '', trailers: [], complete: false };
          reading.messages.push(message);
          take(head.end);
        } else {
          const { body } = message;
          const pieces: string[] = [];
          take(head.body.read(input, (piece) => void pieces.push(piece.toString('latin1'))));
          message.body = body + pieces.join('');
        }
        if (!head.body.done) continue;
        message.trailers = flat(head.body.trailers);
        message.complete = true;
        reading.begins.push(taken);
        reading.end = taken;
      }
    }
    reading.bounded = message?.complete ?? false;
    if (message && head?.body.endsWithConnection) message.complete = true;
  } catch (error) {
    if (!(error instanceof ProxyError)) throw error;
    reading.refusal = error.code;
  }
  return reading;
}
