import { execute } from './program.ts';

/** OpenSSL, driven by its functions: no program changes the name between its two hellos. 92 sets the groups, 55 the name (ssl.h). */
const source = `
import ctypes, select, socket, sys
from ctypes import c_char_p, c_int, c_long, c_void_p, create_string_buffer
ssl = ctypes.CDLL('libssl.so.3')
ssl.TLS_client_method.restype = ssl.SSL_CTX_new.restype = ssl.SSL_new.restype = c_void_p
ssl.SSL_CTX_new.argtypes = ssl.SSL_new.argtypes = ssl.SSL_connect.argtypes = [c_void_p]
ssl.SSL_set_fd.argtypes = ssl.SSL_set_rfd.argtypes = [c_void_p, c_int]
ssl.SSL_ctrl.argtypes = [c_void_p, c_int, c_long, c_char_p]
ssl.SSL_read.argtypes = [c_void_p, c_char_p, c_int]
port, groups, first, second = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
server = socket.create_connection(('127.0.0.1', port))
silence, other_end = socket.socketpair()
silence.setblocking(False)
connection = ssl.SSL_new(ssl.SSL_CTX_new(ssl.TLS_client_method()))
ssl.SSL_ctrl(connection, 92, 0, groups.encode())
ssl.SSL_ctrl(connection, 55, 0, first.encode())
ssl.SSL_set_fd(connection, server.fileno())
ssl.SSL_set_rfd(connection, silence.fileno())
ssl.SSL_connect(connection)
ssl.SSL_ctrl(connection, 55, 0, second.encode())
ssl.SSL_set_rfd(connection, server.fileno())
print('connected' if ssl.SSL_connect(connection) == 1 else 'refused')
answer = create_string_buffer(100)
ssl.SSL_read(connection, answer, 100)
print(answer.value.decode())
`;

/**
 * A client whose first hello asks for one name, and the second, after a HelloRetryRequest, for another.
 * @param groups in OpenSSL's words; the key share is of the first
 * @returns whether the handshake ended well on its side, and what the server said then
 */
export async function connectAs(port: number, groups: string, first: string, second: string): Promise<{ connected: boolean; greeting: string }> {
  const { stdout, stderr } = await execute('/usr/bin/python3', ['-c', source, String(port), groups, first, second]);
  const [outcome, greeting] = stdout.split('\n');
  if (outcome === undefined || greeting === undefined) throw new Error(stderr);
  return { connected: outcome === 'connected', greeting };
}
