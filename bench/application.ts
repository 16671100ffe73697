import * as http from 'node:http';
import { echoWebSockets } from '../test/support/websocket.ts';

/** The backend that reads: uploads to their end, then says so; and echoes WebSocket messages. `node bench/application.ts PORT` */

const answers: Record<string, (request: http.IncomingMessage, response: http.ServerResponse) => void> = {
  '/small': (_request, response) => response.end('hello world\n'),
  '/deaf': (request) => request.pause(),
  '/endless': (_request, response) => {
    const piece = Buffer.alloc(65_536, 'x');
    const feed = (): void => {
      while (!response.destroyed && response.write(piece));
    };
    response.on('drain', feed);
    feed();
  },
};

const server = http.createServer((request, response) => {
  const answer = answers[request.url ?? ''];
  if (answer) answer(request, response);
  else request.resume().on('end', () => response.end('read\n'));
});
server.keepAliveTimeout = 3_600_000;
echoWebSockets(server);
server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4_096 });
