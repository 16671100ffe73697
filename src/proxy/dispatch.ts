import type { Log } from '../log.ts';
import type { BackendRequest, BackendResponse, Engine } from './engine.ts';
import { ProxyError } from './proxy-error.ts';
import { reached, unreachable, type Upstream, type UpstreamPool } from './upstream.ts';

/** A backend's answer, and the claim on the backend that must be given back. */
export interface Lease extends Disposable {
  response: BackendResponse;
  upstream: Upstream;
}

/** RFC 9110, 9.2.2. */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']);

/**
 * Sends a request to the backends of a route until one takes it: the next one if a connection could not be made, and
 * once more after a kept connection that was dead, if the request is idempotent and has no body that is already spent.
 * @throws ProxyError of the last attempt.
 */
export async function dispatch(engine: Engine, pool: UpstreamPool, request: Omit<BackendRequest, 'backend'>, log: Log): Promise<Lease> {
  const tried = new Set<Upstream>();
  let retryable = IDEMPOTENT.has(request.method) && request.framing === 'none';
  let failure = new ProxyError('internal', 'the route has no backend');
  for (;;) {
    const upstream = pool.choose(tried, Date.now());
    if (!upstream) throw failure;
    upstream.active += 1;
    try {
      const response = await engine.send({ ...request, backend: upstream.address });
      reached(upstream);
      return { response, upstream, [Symbol.dispose]: () => release(upstream) };
    } catch (error) {
      upstream.active -= 1;
      if (!(error instanceof ProxyError)) throw error;
      failure = error;
      const unconnected = error.code === 'backend_unreachable' || error.code === 'backend_connect_timeout';
      if (unconnected) {
        unreachable(upstream, Date.now());
        tried.add(upstream);
        if (pool.size > tried.size) log.warn(`${error.message}; trying the next one`, { code: error.code, ...error.facts });
      } else if (error.code === 'backend_stale' && retryable) {
        retryable = false;
      } else {
        if (error.code !== 'client_gone') reached(upstream);
        throw error;
      }
    }
  }
}

function release(upstream: Upstream): void {
  upstream.active -= 1;
}
