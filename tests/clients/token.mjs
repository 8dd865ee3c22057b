// JSON Web Tokens, signed as an application's own backend would sign them.
import { createHmac } from 'node:crypto';

export const SECRET = 'a secret of the tests that is long enough for HS256';

const encoded = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Seconds since the epoch, `seconds` from now: what `exp` holds. */
export const inSeconds = (seconds) => Math.floor(Date.now() / 1000) + seconds;

/** An HS256 token of these claims; it expires in an hour unless they say otherwise. */
export function sign(claims, { secret = SECRET } = {}) {
  const content = `${encoded({ alg: 'HS256', typ: 'JWT' })}.${encoded({ exp: inSeconds(3600), ...claims })}`;
  return `${content}.${createHmac('sha256', secret).update(content).digest('base64url')}`;
}

/** The same claims without a signature, by the algorithm "none". */
export function unsigned(claims) {
  return `${encoded({ alg: 'none', typ: 'JWT' })}.${encoded({ exp: inSeconds(3600), ...claims })}.`;
}
