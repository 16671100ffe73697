import * as http from 'node:http';
import type { AddressInfo } from 'node:net';
import * as os from 'node:os';

/**
 * A responder whose answers are made beforehand, in a process of its own that takes only the CPU time that nobody else wants:
 * elsewhere it would be another machine.
 */

let answers = new Map<string, Buffer>();
let open = 0;
let most = 0;
let asked = 0;

os.setPriority(19);
const server = http.createServer((req, res) => {
  asked += 1;
  res.setHeader('Content-Type', 'application/ocsp-response');
  res.end(answers.get(req.url ?? ''));
});
server.on('connection', (socket) => {
  open += 1;
  most = Math.max(most, open);
  socket.once('close', () => (open -= 1));
});
process.on('message', (message: { answers?: Map<string, Uint8Array> }) => {
  if (message.answers) answers = new Map(Array.from(message.answers, ([path, der]) => [path, Buffer.from(der)]));
  if (server.listening) process.send?.({ asked, most });
  else server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }));
});
process.on('disconnect', () => process.exit(0));
