import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from '@nestjs/common';
import { type Effect, type Emission, emissionText } from './effects';
import type { Settings } from './options';

/** How often, and for how long, a call is tried where that may help. */
const ATTEMPTS = 5;
const TIMEOUT_MS = 10_000;

/** What may wait. Further effects are dropped. */
const MAX_WAITING = 10_000;
const MAX_WAITING_BYTES = 64_000_000;

/** How long an effect may wait for its turn, in milliseconds. */
const MAX_WAIT_MS = 60_000;

/** How long a client may take to appear after the answer that let it in, in milliseconds. */
const ARRIVAL_MS = 3000;

/** The name of a room in which nobody is. */
const NO_ROOM = randomUUID();

/** A refusal of roomcast's HTTP API. */
export class RoomcastApiError extends Error {
  override readonly name = 'RoomcastApiError';

  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** A connection in roomcast's lists. */
export interface ListedConnection {
  id: string;
  userId: string | null;
  clientName: string;
  namespace: string;
  rooms: string[];
  transport: string;
  connectedAt: string;
}

/** roomcast's HTTP API. Effects are done one after the other, in the order in which they were added. */
export class Outbox {
  private tail: Promise<void> = Promise.resolve();
  private waiting = 0;
  private waitingBytes = 0;
  private dropped = 0;
  /** What is called when a client turns out to have gone. */
  onGone: (clientId: string) => void = () => {};
  /** When a client was let in, in milliseconds since 1970. */
  arrivedAt: (clientId: string) => number = () => 0;

  constructor(
    private readonly settings: Settings,
    readonly logger: Logger,
  ) {}

  /** Does an effect after all that were added before. Nobody waits for it: a failure is logged. */
  add(effect: Effect): void {
    const bytes = effect.kind === 'emit' ? effect.emission.args.length : 200;
    if (this.waiting >= MAX_WAITING || this.waitingBytes + bytes > MAX_WAITING_BYTES) {
      if (this.dropped++ === 0) this.logger.error('roomcast does not take what is sent fast enough: further effects are dropped');
      return;
    }
    this.waiting += 1;
    this.waitingBytes += bytes;
    const since = Date.now();
    this.tail = this.tail
      .then(() => {
        if (Date.now() - since <= MAX_WAIT_MS) return this.carryOut(effect);
        this.dropped += 1;
      })
      .catch((error: unknown) => this.logger.error(`${describe(effect)} has failed: ${reason(error)}`))
      .finally(() => {
        this.waiting -= 1;
        this.waitingBytes -= bytes;
        if (this.waiting === 0 && this.dropped > 0) {
          this.logger.error(`${this.dropped} effects were dropped: roomcast was not there in time`);
          this.dropped = 0;
        }
      });
  }

  /** Resolves when everything that was added before has been done. */
  settled(): Promise<void> {
    return this.tail;
  }

  /** The same, for so long at most. */
  async settledWithin(milliseconds: number): Promise<void> {
    const limit = new AbortController();
    const late = pause(milliseconds, undefined, { signal: limit.signal }).catch(() => {});
    await Promise.race([this.tail, late]);
    limit.abort();
  }

  /** Acknowledges an event that was answered with 202. */
  acknowledge(id: string, args: string): void {
    // Roomcast may not have read the answer yet that says that this follows.
    const run = () => this.arriving(Date.now(), () => this.call('POST', `acks/${encodeURIComponent(id)}`, `{"args":${args}}`));
    this.add({ kind: 'call', run: () => run().then(() => {}) });
  }

  /** Sends an event and waits for what the clients acknowledge. */
  async ask(emission: Emission, timeoutMs: number): Promise<{ responses: { clientId: string; args: unknown[] }[]; timedOut: string[] }> {
    const text = `${emissionText(emission, false).slice(0, -1)},"ack":{"timeoutMs":${timeoutMs}}}`;
    return (await this.call('POST', 'events', text, timeoutMs + TIMEOUT_MS)) as never;
  }

  /** The clients of a namespace, or of one of its rooms. */
  async connections(namespace: string, room?: string): Promise<ListedConnection[]> {
    const found: ListedConnection[] = [];
    for await (const page of this.pages(namespace, room)) found.push(...page.items);
    return found;
  }

  /** The ids of a namespace's clients; undefined if not all nodes have told theirs. */
  async connectedIds(namespace: string): Promise<Set<string> | undefined> {
    const ids = new Set<string>();
    for await (const { items, partial } of this.pages(namespace)) {
      if (partial) return undefined;
      for (const { id } of items) ids.add(id);
    }
    return ids;
  }

  private async *pages(namespace: string, room?: string): AsyncGenerator<{ items: ListedConnection[]; partial?: boolean }> {
    const query = new URLSearchParams({ namespace, limit: '1000', ...(room !== undefined && { room }) });
    for (;;) {
      const page = (await this.call('GET', `connections?${query}`)) as { items: ListedConnection[]; nextCursor: string | null };
      yield page;
      if (page.nextCursor === null) return;
      query.set('cursor', page.nextCursor);
    }
  }

  /** A client of a namespace, if it is connected. */
  async connection(clientId: string, namespace: string): Promise<ListedConnection | undefined> {
    try {
      const query = new URLSearchParams({ namespace });
      return (await this.call('GET', `connections/${encodeURIComponent(clientId)}?${query}`)) as ListedConnection;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  private async carryOut(effect: Effect): Promise<void> {
    switch (effect.kind) {
      case 'emit':
        return this.send(effect.emission);
      case 'join':
        return this.join(effect.socket.id, effect.rooms);
      case 'leave':
        return this.leave(effect.socket.id, effect.rooms);
      case 'disconnect':
        return this.disconnect(effect.socket.id);
      case 'call':
        return effect.run(this);
    }
  }

  private async send(emission: Emission): Promise<void> {
    const text = emissionText(emission, this.settings.history);
    const { clients, rooms } = emission.target;
    const only = clients.length === 1 && !rooms.length ? clients[0] : undefined;
    const isMissing = async () => {
      const { notFound } = (await this.call('POST', 'events', text)) as { notFound: string[] };
      if (only !== undefined && notFound.includes(only)) throw new RoomcastApiError(404, `client ${only} is not connected`);
    };
    try {
      await (only === undefined ? isMissing() : this.arriving(this.arrivedAt(only), isMissing));
    } catch (error) {
      // Socket.IO, too, sends into the void.
      if (only === undefined || !isNotFound(error)) throw error;
      this.onGone(only);
    }
  }

  async join(clientId: string, rooms: readonly string[]): Promise<void> {
    await this.ofClient(clientId, () => this.call('POST', `connections/${encodeURIComponent(clientId)}/rooms`, JSON.stringify({ rooms })));
  }

  async leave(clientId: string, rooms: readonly string[]): Promise<void> {
    const query = rooms.map((room) => `room=${encodeURIComponent(room)}`).join('&');
    await this.ofClient(clientId, () => this.call('DELETE', `connections/${encodeURIComponent(clientId)}/rooms?${query}`));
  }

  /** Waits until roomcast has done all that concerns a client's last event: a change of its rooms takes its turn behind it. */
  fence(clientId: string): Promise<void> {
    return this.leave(clientId, [NO_ROOM]);
  }

  async disconnect(clientId: string): Promise<void> {
    await this.ofClient(clientId, () => this.call('DELETE', `connections/${encodeURIComponent(clientId)}`));
  }

  private async ofClient(clientId: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await this.arriving(this.arrivedAt(clientId), work);
    } catch (error) {
      if (!isNotFound(error)) throw error;
      this.onGone(clientId);
    }
  }

  /** A client that was let in a moment ago may not be there yet. */
  private async arriving(since: number, work: () => Promise<unknown>): Promise<void> {
    for (let wait = 20; ; wait *= 2) {
      try {
        await work();
        return;
      } catch (error) {
        if (!isNotFound(error) || Date.now() + wait > since + ARRIVAL_MS) throw error;
        await pause(wait);
      }
    }
  }

  private async call(method: string, path: string, body?: string, timeout = TIMEOUT_MS): Promise<unknown> {
    const headers: Record<string, string> = { authorization: `Bearer ${this.settings.apiKey()}` };
    if (body !== undefined) headers['content-type'] = 'application/json';
    // What is sent again with the same key is done once.
    if (method === 'POST') headers['idempotency-key'] = randomUUID();
    const url = new URL(path, this.settings.url);
    for (let attempt = 1; ; attempt++) {
      let wait = 100 * 2 ** attempt;
      let failure: unknown;
      try {
        const response = await fetch(url, { method, headers, body, redirect: 'manual', signal: AbortSignal.timeout(timeout) });
        const text = await response.text();
        if (response.ok) return text === '' ? undefined : JSON.parse(text);
        failure = new RoomcastApiError(response.status, messageOf(text) ?? `roomcast answered with status ${response.status}`);
        if (response.status !== 429 && response.status !== 503) throw failure;
        wait = Math.min(Number(response.headers.get('retry-after')) * 1000 || wait, 5000);
      } catch (error) {
        if (error === failure || attempt >= ATTEMPTS) throw error;
        failure = error;
      }
      if (attempt >= ATTEMPTS) throw failure;
      await pause(wait);
    }
  }
}

const isNotFound = (error: unknown): boolean => error instanceof RoomcastApiError && error.status === 404;

function messageOf(text: string): string | undefined {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    return message === undefined ? undefined : [message].flat().join(', ');
  } catch {
    return undefined;
  }
}

function reason(error: unknown): string {
  const { message, cause } = error as Error & { cause?: Error };
  return cause instanceof Error ? `${message}: ${cause.message}` : String(message ?? error);
}

function describe(effect: Effect): string {
  switch (effect.kind) {
    case 'emit':
      return `sending "${effect.emission.event}"`;
    case 'call':
      return 'a request to roomcast';
    default:
      return `${effect.kind} of client ${effect.socket.id}`;
  }
}
