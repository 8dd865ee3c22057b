import type { Code, Refused } from './events.js';

/** Why the package itself gives up. */
export type ClientCode =
  /** `client.close()` was called. */
  | 'closed'
  /** The connection was lost before the answer came, and the event is not one that may be repeated. */
  | 'disconnected'
  /** No answer within `sendTimeout`. The event may have been done. */
  | 'timeout'
  /** The connection was lost before the answer came, and only a client with a user may repeat this event. It may have been done. */
  | 'unconfirmed'
  /** The client is another user now. The event may have been done for the former one. */
  | 'user_changed'
  /** More than `maxPending` events wait. */
  | 'outbox_full'
  /** The room was left. */
  | 'left';

/** A refusal of the server, or the reason why the client gave up. */
export class RoomcastError extends Error {
  override readonly name = 'RoomcastError';
  constructor(
    readonly code: Code | ClientCode,
    message: string,
    /** The refused event. */
    readonly event?: string,
    /** More from the application's backend, if it refused the event. */
    readonly data?: unknown,
  ) {
    super(message);
  }

  static refused(event: string, refusal: Refused): RoomcastError {
    return new RoomcastError(refusal.code, refusal.message, event, refusal.data);
  }
}

/** Whether an acknowledgement is a refusal. */
export const isRefused = (ack: unknown): ack is Refused =>
  typeof ack === 'object' && ack !== null && (ack as Refused).success === false && typeof (ack as Refused).code === 'string';

/** Whether the same event may succeed later. */
export const isTransient = ({ code }: Refused): boolean => code === 'rate_limited' || code === 'unavailable';
