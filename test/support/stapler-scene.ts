import assert from 'node:assert/strict';
import path from 'node:path';
import { ocspDefaults, type OcspPolicy } from '../../src/config/policies.ts';
import { Authority, type IssueOptions } from '../../src/demo/authority.ts';
import type { ResponseFile } from '../../src/ocsp/given-response.ts';
import type { StapledLeaf, StapleStatus } from '../../src/ocsp/staple-status.ts';
import { Stapler } from '../../src/ocsp/stapler.ts';
import type { ServableStaple } from '../../src/snapshot.ts';
import { FaultyResponder } from './faulty-responder.ts';
import { temporaryFolder } from './program.ts';
import { recordedLog, stapledLeaf } from './stapling.ts';
import { VirtualClock } from './virtual-clock.ts';

const day = 86_400_000;

/** Issues every certificate of these tests. */
export const authority = await Authority.root('Stapler test CA', { notBefore: new Date(Date.UTC(2026, 0)), notAfter: new Date(Date.UTC(2036, 0)) });

interface SceneOptions {
  clock?: VirtualClock;
  directory: string;
}

/** A Stapler on a virtual clock. */
export class Scene implements AsyncDisposable {
  readonly clock: VirtualClock;
  readonly log = recordedLog();
  readonly stapler: Stapler;
  /** What onStaple was told. */
  readonly events: { fingerprint: string; staple: ServableStaple | undefined }[] = [];

  private constructor({ directory, clock = new VirtualClock() }: SceneOptions) {
    this.clock = clock;
    this.stapler = new Stapler({ directory, clock, log: this.log, onStaple: (fingerprint, staple) => this.events.push({ fingerprint, staple }) });
  }

  static async open(options: SceneOptions): Promise<Scene> {
    const scene = new Scene(options);
    await scene.stapler.open();
    return scene;
  }

  async issue(ocsp: string | string[], options: IssueOptions = {}): Promise<StapledLeaf> {
    const validity = { notBefore: new Date(this.clock.now() - 30 * day), notAfter: new Date(this.clock.now() + 300 * day) };
    return stapledLeaf(await authority.issue({ names: ['www.example.org'], ocsp, ...validity, ...options }), authority);
  }

  /** Takes these certificates into use and waits until nothing is going on any more. */
  async use(certificates: StapledLeaf[], policy: Partial<OcspPolicy> = {}, file?: ResponseFile): Promise<void> {
    this.stapler.setCertificates(certificates.map((certificate) => ({ certificate, policy: { ...ocspDefaults, ...policy }, file })));
    await this.settle();
  }

  /** Loading, then whatever is due at once, to the end. */
  async settle(): Promise<void> {
    await this.stapler.idle();
    this.clock.advance(0);
    await this.stapler.idle();
  }

  /** Lets time pass, waiting for the network wherever something is asked. */
  async pass(duration: number): Promise<void> {
    const end = this.clock.now() + duration;
    while (this.clock.next !== undefined && this.clock.next <= end) {
      this.clock.step();
      await this.stapler.idle();
    }
    this.clock.advance(end - this.clock.now());
  }

  status(): StapleStatus {
    const [status] = this.stapler.status();
    assert.ok(status);
    return status;
  }

  codes(level: string): unknown[] {
    return this.log.of(level).map(({ facts }) => facts.code);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stapler.close();
  }
}

/** A responder on the scene's clock, in a folder of its own. */
export async function scene(fault: FaultyResponder['fault'] = 'good', clock = new VirtualClock()) {
  const folder = await temporaryFolder();
  const responder = await FaultyResponder.start(authority, fault, () => clock.now());
  const own = await Scene.open({ directory: folder.path, clock });
  const dispose = async (): Promise<void> => {
    await own.stapler.close();
    await responder.close();
    await folder[Symbol.asyncDispose]();
  };
  return { scene: own, responder, clock, directory: folder.path, files: path.join(folder.path, 'ocsp'), [Symbol.asyncDispose]: dispose };
}
