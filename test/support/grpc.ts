import { execute } from './program.ts';
import { pythonInterpreter, startPython, type PythonServer } from './python.ts';

/** A real gRPC server (Debian's python3-grpcio); messages are plain bytes. It prints a line when a call is cancelled. */
export function startGrpcServer(): Promise<PythonServer> {
  return startPython(`
import grpc, threading, time
from concurrent import futures

def echo(request, context):
    context.set_trailing_metadata((('x-seen', dict(context.invocation_metadata()).get('x-sent', '-')),))
    return request
def count(request, context):
    for n in range(int(request)):
        yield str(n).encode()
def talk(requests, context):
    for request in requests:
        yield request.upper()
def fail(request, context):
    context.set_trailing_metadata((('x-why', 'because'),))
    context.abort(grpc.StatusCode.NOT_FOUND, 'no such thing: \\u00e4')
def late(requests, context):
    for request in requests:
        yield request
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, 'enough')
def wait(request, context):
    ended = threading.Event()
    context.add_callback(ended.set)
    yield b'begun'
    ended.wait(30)
    print('cancelled', flush=True)
class Calls(grpc.GenericRpcHandler):
    def service(self, details):
        name = details.method.rsplit('/', 1)[-1]
        kinds = {
            'Echo': grpc.unary_unary_rpc_method_handler(echo), 'Count': grpc.unary_stream_rpc_method_handler(count),
            'Talk': grpc.stream_stream_rpc_method_handler(talk), 'Fail': grpc.unary_unary_rpc_method_handler(fail),
            'Late': grpc.stream_stream_rpc_method_handler(late), 'Wait': grpc.unary_stream_rpc_method_handler(wait),
        }
        return kinds.get(name)
server = grpc.server(futures.ThreadPoolExecutor(16), options=[('grpc.max_receive_message_length', -1), ('grpc.so_reuseport', 0)])
server.add_generic_rpc_handlers((Calls(),))
port = server.add_insecure_port('127.0.0.1:0')
server.start()
print(port, flush=True)
server.wait_for_termination()`);
}

/**
 * Runs calls of a real gRPC client against a front on loopback that speaks HTTP/2 without TLS, for a.test.
 * @param calls Python with `unary`, `stream`, `both` and `failure` of the channel; each `print` is a line of the result
 */
export async function grpcCalls(port: number, calls: string): Promise<string[]> {
  const source = `
import grpc, threading
channel = grpc.insecure_channel('127.0.0.1:${port}', options=[('grpc.default_authority', 'a.test'), ('grpc.max_receive_message_length', -1), ('grpc.enable_http_proxy', 0)])
def unary(name): return channel.unary_unary('/test.Calls/' + name)
def stream(name): return channel.unary_stream('/test.Calls/' + name)
def both(name): return channel.stream_stream('/test.Calls/' + name)
def failure(call):
    try:
        call()
        return 'no failure'
    except grpc.RpcError as error:
        return error.code().name + ' ' + str(error.details()) + ' ' + str({k: v for k, v in (error.trailing_metadata() or ()) if k not in ('content-length', 'date')})
${calls}
channel.close()`;
  const { stdout } = await execute(pythonInterpreter, ['-c', source]);
  return stdout.split('\n').filter((line) => line !== '');
}
