import type { Status, Timestamp } from './events.js';

/** What is known of a user. */
export interface UserPresence {
  status: Status;
  /** When the server said so, or the user was last active. */
  since: Timestamp;
}

/** How many users are kept: on a large server, those that were heard of last. */
const LIMIT = 10_000;

/** What was heard of users since the connection began. Presence is not recovered: it is forgotten with the connection. */
export class Presence {
  readonly #users = new Map<string, UserPresence>();

  /** What is known of a user; undefined if nothing was heard. */
  of(userId: string): UserPresence | undefined {
    return this.#users.get(userId);
  }

  /** The users that are known to be online, busy or away. */
  online(): string[] {
    return [...this.#users].filter(([, { status }]) => status !== 'offline').map(([userId]) => userId);
  }

  /** Takes an event in; the user that it is about, if it changes anything. */
  heard(event: string, payload: unknown): string | undefined {
    if (event !== 'user-online' && event !== 'user-offline' && event !== 'presenceUpdate') return undefined;
    const { userId, status, timestamp, lastActive } = payload as { userId: string; status: Status; timestamp: Timestamp; lastActive: Timestamp };
    const now = event === 'presenceUpdate' ? { status, since: lastActive } : { status: event === 'user-online' ? 'online' : 'offline', since: timestamp } as const;
    if (event === 'user-online') {
      // It may have set a status already, on another client.
      const known = this.#users.get(userId);
      if (known && known.status !== 'offline') return undefined;
    }
    if (this.#users.get(userId)?.status === now.status) return undefined;
    this.#users.delete(userId);
    this.#users.set(userId, now);
    for (const oldest of this.#users.keys()) {
      if (this.#users.size <= LIMIT) break;
      this.#users.delete(oldest);
    }
    return userId;
  }

  clear(): void {
    this.#users.clear();
  }
}
