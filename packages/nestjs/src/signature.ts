import { createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';

/** How old, or how far ahead, a request may be, in seconds. */
const TOLERANCE = 300;

/** Checks signatures as the Standard Webhooks specification describes them. */
export class Verifier {
  // Private in earnest: an object that is logged must not show it.
  readonly #keys: Buffer[];

  /** `secret`: `whsec_` and a key in base64; or several, separated by commas, while one replaces the other. */
  constructor(secret: string) {
    this.#keys = secret.split(',').map((part) => {
      const encoded = part.trim().replace(/^whsec_/, '');
      const key = Buffer.from(encoded, 'base64');
      if (!/^[A-Za-z0-9+/]+=*$/.test(encoded) || key.length < 16) {
        throw new Error('RoomcastAdapter: secret must be roomcast\'s HANDLER_SECRET: "whsec_" and a key in base64');
      }
      return key;
    });
  }

  /** Why the request is not roomcast's, or nothing if it is. */
  fault(headers: IncomingHttpHeaders, body: Buffer, now = Date.now()): string | undefined {
    const { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures } = headers;
    if (typeof id !== 'string' || typeof timestamp !== 'string' || typeof signatures !== 'string') {
      return 'the request is not signed: set HANDLER_SECRET on roomcast to the same secret';
    }
    const age = now / 1000 - Number(timestamp);
    if (!/^\d{1,12}$/.test(timestamp) || Math.abs(age) > TOLERANCE) return 'the timestamp is too far from this machine\'s clock';
    const wanted = this.#keys.map((key) => createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest());
    const given = signatures.split(' ', 16).map((signature) => {
      const [version, encoded] = signature.split(',', 2);
      return version === 'v1' && encoded ? Buffer.from(encoded, 'base64') : Buffer.alloc(0);
    });
    const isRight = wanted.some((right) => given.some((one) => one.length === right.length && timingSafeEqual(one, right)));
    return isRight ? undefined : 'the signature is wrong: HANDLER_SECRET of roomcast and the secret here differ';
  }
}
