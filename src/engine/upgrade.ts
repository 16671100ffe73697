import * as http from 'node:http';
import type { BackendRequest, BackendResponse } from '../proxy/engine.ts';
import { rawFromFields } from '../proxy/headers.ts';
import { attend } from './client-request.ts';

/** Sends a WebSocket handshake (RFC 6455, 4) on a connection of its own. Fails as `Engine` says. */
export function requestUpgrade(request: BackendRequest): Promise<BackendResponse> {
  const { backend, method, target, fields } = request;
  const outgoing = http.request({
    ...('socketPath' in backend ? { socketPath: backend.socketPath } : { host: backend.host, port: backend.port }),
    agent: false,
    method,
    path: target,
    headers: rawFromFields(fields),
  });
  outgoing.maxHeadersCount = 0;
  return attend(outgoing, request);
}
