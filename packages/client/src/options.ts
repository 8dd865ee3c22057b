import type { ManagerOptions, SocketOptions } from 'socket.io-client';
import type { RoomcastError } from './errors.js';
import type { Name } from './events.js';
import type { UserPresence } from './presence.js';
import type { TokenSource } from './token.js';

/** The application's own events that its backend answers, by their names: functions of the payload that return the answer. */
export type RequestMap<R> = { [K in keyof R]: (payload: any) => unknown };

export interface ClientOptions {
  /** Where tokens come from. It is called at every connect, and before a token expires. */
  token?: TokenSource;
  /** The user that this client claims to be, on a server without authentication. */
  user?: Name;
  /** The client's name, if the token has none. */
  clientName?: string;
  /** More for the handshake. */
  auth?: Record<string, unknown>;
  /** How long before its expiry a token is renewed, in milliseconds (60,000). */
  renewBefore?: number;
  /** How long a send is tried, in milliseconds (60,000). Keep it below the server's `IDEMPOTENCY_WINDOW`. */
  sendTimeout?: number;
  /** How many sends may wait (1000). */
  maxPending?: number;
  /** Options of socket.io-client. */
  socket?: Partial<ManagerOptions & SocketOptions>;
}

/** What happens to a client's connection. */
export interface ClientStates {
  connected: (now: { clientId: string; recovered: boolean }) => void;
  /** The connection is gone. The client comes back by itself, unless it was closed. */
  disconnected: (now: { reason: string }) => void;
  /** There is no connection. It is tried again. */
  unreachable: (error: Error) => void;
  /** The server refuses the connection. It is tried again, unless the namespace does not exist. */
  refused: (error: RoomcastError) => void;
  /** There is no new token. It is tried again. */
  'token-failed': (error: Error) => void;
  /** The presence of a user changes. */
  presence: (userId: string, presence: UserPresence) => void;
  /** Presence has to be learnt anew: the connection is another one. */
  'presence-reset': () => void;
}
