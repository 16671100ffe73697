import type { AnswerHandler } from '../../src/http2/client-streams.ts';
import { ClientSession } from '../../src/http2/client-session.ts';
import { PREFACE } from '../../src/http2/frames.ts';
import type { HeaderField } from '../../src/http2/header-field.ts';
import type { Stream } from '../../src/http2/stream.ts';
import { field } from '../../src/proxy/headers.ts';
import { flags, frame, frameTypes, headerBlock } from './http2.ts';
import { Peer, type Recorded } from './http2-peer.ts';

/** What a client has seen of a stream. */
export interface Answered extends AnswerHandler, Recorded {
  stream: Stream;
  interim: number[];
  status: number | undefined;
  fields: readonly HeaderField[];
}

/** A server that a session asks. */
export class ServerPeer extends Peer {
  readonly session: ClientSession;
  /** How often settings have come. */
  allowed = 0;
  /** Codes of GOAWAY. */
  readonly leaving: number[] = [];

  /** @param greeting what the server begins with */
  constructor(greeting: Buffer = frame(frameTypes.settings, 0, 0)) {
    super(PREFACE.length);
    this.session = new ClientSession(
      {
        allowed: () => (this.allowed += 1),
        leaving: (code) => this.leaving.push(code),
        failed: (error) => (this.error = error),
      },
      65_536,
      this.output,
    );
    this.send(greeting);
  }

  /** Sends a request. */
  ask(path = '/', isLast = true): Answered {
    const fields = [field(':method', isLast ? 'GET' : 'POST'), field(':scheme', 'http'), field(':authority', 'a.test'), field(':path', path)];
    const one: Omit<Answered, 'stream'> = Object.assign(
      this.recorded(() => stream),
      {
        interim: [] as number[],
        status: undefined,
        fields: [],
        informed: (status: number) => one.interim.push(status),
        answered: (status: number, fields: readonly HeaderField[]) => {
          one.status = status;
          one.fields = fields;
        },
      },
    );
    const stream = this.session.request(fields, isLast, one);
    return Object.assign(one, { stream });
  }

  /** Answers with this head. */
  headers(stream: number, isComplete = true, fields: readonly (readonly [string, string])[] = [[':status', '200']]): void {
    this.send(frame(frameTypes.headers, flags.endHeaders | (isComplete ? flags.endStream : 0), stream, headerBlock(fields)));
  }
}
