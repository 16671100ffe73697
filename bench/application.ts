import * as http from 'node:http';
import { echoWebSockets } from '../test/support/websocket.ts';

/** The backend that reads: uploads to their end, then says so; and echoes WebSocket messages. `node bench/application.ts PORT` */

const server = http.createServer((request, response) => {
  request.resume().on('end', () => response.end('read\n'));
});
server.keepAliveTimeout = 3_600_000;
echoWebSockets(server);
server.listen(Number(process.argv[2]), '127.0.0.1');
