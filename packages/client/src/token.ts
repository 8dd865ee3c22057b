/** A token, and how long it is good for, in seconds, if it is not a JSON Web Token that says so. */
export type Token = string | { token: string; expiresIn?: number };

/** Where tokens come from. It is called at every connect and before a token expires. */
export type TokenSource = () => Token | Promise<Token>;

/** What a token says, as far as the client can read it. Only the server verifies it. */
export interface TokenContent {
  token: string;
  user: string | undefined;
  /** How long it is good for, in milliseconds from when it was fetched. */
  lastsMs: number | undefined;
}

/** Asks the source and reads its token. */
export async function fetchToken(source: TokenSource): Promise<TokenContent> {
  const given = await source();
  const { token, expiresIn } = typeof given === 'string' ? { token: given, expiresIn: undefined } : given;
  if (typeof token !== 'string' || token === '') throw new TypeError('token() must return a token, or {token, expiresIn}');
  const claims = claimsOf(token);
  const subject = claims['sub'] ?? claims['id'];
  const user = typeof subject === 'string' || typeof subject === 'number' ? String(subject) : undefined;
  return { token, user, lastsMs: lifetime(claims, expiresIn) };
}

/** When to renew a token that lasts so long: in good time before, however short it is. */
export const renewalDelay = (lastsMs: number, renewBeforeMs: number): number => Math.max(lastsMs - Math.min(renewBeforeMs, lastsMs / 4), 1000);

/** How long a token lasts if nothing that is said of it can be right, in milliseconds. */
const UNKNOWN_MS = 60_000;

/** How long a token lasts, in milliseconds: the least that is said. The clock of this machine may be wrong. */
function lifetime({ exp, iat }: Record<string, unknown>, expiresIn: number | undefined): number | undefined {
  const said: number[] = [];
  if (expiresIn !== undefined) said.push(expiresIn * 1000);
  if (typeof exp === 'number') {
    said.push(exp * 1000 - Date.now());
    if (typeof iat === 'number') said.push((exp - iat) * 1000);
  }
  if (said.length === 0) return undefined;
  // A new token that has expired already: the clock is fast.
  const possible = said.filter((milliseconds) => milliseconds > 0);
  return possible.length > 0 ? Math.min(...possible) : UNKNOWN_MS;
}

/** The claims of a JSON Web Token; empty if it is none. */
function claimsOf(token: string): Record<string, unknown> {
  try {
    const part = (token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(part), (letter) => letter.charCodeAt(0));
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return typeof claims === 'object' && claims !== null ? (claims as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
