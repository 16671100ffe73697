import type { X509Certificate } from 'node:crypto';
import { buildChain } from '../../certificates/chain.ts';
import { type Extensions, readExtensions } from '../../certificates/extensions.ts';
import { acceptancePolicy } from '../../ocsp/held-staple.ts';
import { OcspRefusal } from '../../ocsp/refusal.ts';
import { acceptResponse } from '../../ocsp/verify.ts';
import { ocspDefaults } from '../../config/policies.ts';
import { type Host, visit } from './host.ts';
import { readCertificates } from './input.ts';
import { describeResponse } from './inspect.ts';
import { keyText } from './names.ts';
import { CommandError, isoTime, type Labelled, outline, type Outcome } from './outcome.ts';
import { oneLine } from './subject.ts';
import { verdict } from './verify.ts';

export interface ProbeOptions {
  servername?: string | undefined;
  /** PEM or DER file of the authorities to trust instead of the usual ones; issuers are looked for in it too. */
  cafile?: string | undefined;
}

/**
 * What a client that asks for a staple sees of a server. Good when a valid staple came that says good.
 *
 * @throws CertificateError, CommandError
 */
export async function probe(host: Host, { servername, cafile }: ProbeOptions): Promise<Outcome> {
  const authorities = cafile === undefined ? [] : await readCertificates(cafile);
  const ca = cafile === undefined ? undefined : authorities.map(String);
  const { protocol, cipher, group, chain, staple, trustError } = await visit(host, { servername, ca });
  const [leaf] = chain;
  const extensions = extensionsOf(leaf);

  const { ok, lines, json } = await verdict(() => {
    if (staple === undefined) throw new CommandError('no_staple', `the server sent no OCSP response${why(extensions)}`);
    const { issuer } = buildChain(leaf, [...chain, ...authorities]);
    if (issuer === undefined)
      throw new OcspRefusal('issuer_mismatch', 'the server does not send the issuer of its certificate; name a file that holds it with --cafile');
    return acceptResponse(staple, { leaf, issuer }, acceptancePolicy(ocspDefaults, Date.now()));
  });
  const seen = {
    connection: { protocol, group, cipher },
    certificate: { ...certificateText(leaf, extensions), trusted: trustError === undefined, trustError },
    chain: chain.slice(1).map(({ subject }) => oneLine(subject)),
    staple: staple === undefined ? 'none' : stapleText(staple),
  };
  return { ok, lines: [...lines.slice(0, 1), ...outline(seen)], json: { ...json, ...seen, staple: staple === undefined ? null : seen.staple } };
}

function why({ mustStaple, ocspResponders }: Extensions): string {
  if (mustStaple) return ', and its certificate demands one (must-staple): clients that obey refuse it';
  return ocspResponders.length === 0 ? '; its certificate names no OCSP responder' : '';
}

function extensionsOf({ raw }: X509Certificate): Extensions {
  try {
    return readExtensions(raw);
  } catch {
    // Said by what is missing in the output: it is somebody else's certificate, and it came through a handshake.
    return { names: [], addresses: [], ignoredNames: [], ocspResponders: [], mustStaple: false };
  }
}

function certificateText(leaf: X509Certificate, { names, addresses, mustStaple, ocspResponders }: Extensions): Labelled {
  return {
    subject: oneLine(leaf.subject),
    names: [...names, ...addresses],
    issuer: oneLine(leaf.issuer),
    serialNumber: leaf.serialNumber,
    publicKey: keyText(leaf.publicKey),
    notBefore: isoTime(leaf.validFromDate.getTime()),
    notAfter: isoTime(leaf.validToDate.getTime()),
    mustStaple,
    ocspResponders,
  };
}

function stapleText(staple: Buffer): Labelled {
  try {
    return describeResponse(staple);
  } catch (error) {
    if (error instanceof OcspRefusal) return { unreadable: staple.toString('hex') };
    throw error;
  }
}
