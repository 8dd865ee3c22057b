import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from '@nestjs/common';
import { Api, isNotFound, PIPELINED, RoomcastApiError } from './api';
import { type Effect, type Emission, emissionText } from './effects';
import type { Settings } from './options';

/** What may wait. Further effects are dropped. */
const MAX_WAITING = 100_000;
const MAX_WAITING_BYTES = 64_000_000;

/** How long an effect may wait for its turn, in milliseconds. */
const MAX_WAIT_MS = 60_000;

/** How long a client may take to appear after the answer that let it in, in milliseconds. */
const ARRIVAL_MS = 3000;

/** The name of a room in which nobody is. */
const NO_ROOM = randomUUID();

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

/** An effect that waits for its turn. */
interface Waiting {
  effect: Effect;
  bytes: number;
  since: number;
  done: () => void;
}

/** What is done by roomcast's HTTP API: effects in the order in which they were added, and questions. */
export class Outbox {
  private readonly api: Api;
  private readonly queue: Waiting[] = [];
  /** Effects that are under way: several only of those that are sent. */
  private readonly underWay = new Set<Promise<void>>();
  private isPumping = false;
  private tail: Promise<void> = Promise.resolve();
  private waitingBytes = 0;
  private dropped = 0;
  /** What is called when a client turns out to have gone. */
  onGone: (clientId: string) => void = () => {};
  /** When a client was let in, in milliseconds since 1970. */
  arrivedAt: (clientId: string) => number = () => 0;

  constructor(
    private readonly settings: Settings,
    readonly logger: Logger,
  ) {
    this.api = new Api(settings);
  }

  /** Ends all calls. */
  close(): Promise<void> {
    return this.api.close();
  }

  /** Does an effect after all that were added before. Nobody waits for it: a failure is logged. */
  add(effect: Effect): void {
    const bytes = effect.kind === 'emit' ? effect.emission.args.length : 200;
    if (this.queue.length >= MAX_WAITING || this.waitingBytes + bytes > MAX_WAITING_BYTES) {
      if (this.dropped++ === 0) this.logger.error('roomcast does not take what is sent fast enough: further effects are dropped');
      return;
    }
    this.waitingBytes += bytes;
    const before = this.tail;
    const done = new Promise<void>((done) => this.queue.push({ effect, bytes, since: Date.now(), done }));
    this.tail = Promise.all([before, done]).then(() => {});
    if (!this.isPumping) void this.pump();
  }

  private async pump(): Promise<void> {
    this.isPumping = true;
    let at = 0;
    for (; at < this.queue.length; at++) {
      const waiting = this.queue[at];
      this.waitingBytes -= waiting.bytes;
      // What is only sent need not wait for what was sent before: it takes its turn on the same connection.
      const isSent = waiting.effect.kind === 'emit' && !this.isArriving(waiting.effect.emission);
      while (this.underWay.size > 0 && (!isSent || this.underWay.size >= PIPELINED)) await Promise.race(this.underWay);
      const work = this.carryOutInTime(waiting);
      this.underWay.add(work);
      void work.then(() => {
        this.underWay.delete(work);
        waiting.done();
      });
      if (!isSent) await work;
      // Taking them out one by one would move all others each time.
      if (at >= 1000) this.queue.splice(0, at + 1), (at = -1);
    }
    this.queue.length = 0;
    this.isPumping = false;
    if (this.dropped > 0) this.logger.error(`${this.dropped} effects were dropped: roomcast was not there in time`);
    this.dropped = 0;
  }

  private async carryOutInTime({ effect, since }: Waiting): Promise<void> {
    if (Date.now() - since > MAX_WAIT_MS) {
      this.dropped += 1;
      return;
    }
    try {
      await this.carryOut(effect);
    } catch (error) {
      this.logger.error(`${describe(effect)} has failed: ${reason(error)}`);
    }
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
    const run = () => this.arriving(Date.now(), () => this.api.call({ method: 'POST', path: `acks/${encodeURIComponent(id)}`, body: `{"args":${args}}` }));
    this.add({ kind: 'call', run: () => run().then(() => {}) });
  }

  /** Sends an event and waits for what the clients acknowledge. */
  async ask(emission: Emission, timeoutMs: number): Promise<{ responses: { clientId: string; args: unknown[] }[]; timedOut: string[] }> {
    const text = `${emissionText(emission, false).slice(0, -1)},"ack":{"timeoutMs":${timeoutMs}}}`;
    return (await this.api.call({ method: 'POST', path: 'events', body: text, timeout: timeoutMs + 10_000 })) as never;
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
      const page = (await this.api.call({ method: 'GET', path: `connections?${query}` })) as { items: ListedConnection[]; nextCursor: string | null };
      yield page;
      if (page.nextCursor === null) return;
      query.set('cursor', page.nextCursor);
    }
  }

  /** A client of a namespace, if it is connected. */
  async connection(clientId: string, namespace: string): Promise<ListedConnection | undefined> {
    try {
      const query = new URLSearchParams({ namespace });
      return (await this.api.call({ method: 'GET', path: `connections/${encodeURIComponent(clientId)}?${query}` })) as ListedConnection;
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

  /** Whether a client that it is for may not be there yet. */
  private isArriving(emission: Emission): boolean {
    const only = onlyClient(emission);
    return only !== undefined && this.arrivedAt(only) + ARRIVAL_MS > Date.now();
  }

  private async send(emission: Emission): Promise<void> {
    const text = emissionText(emission, this.settings.history);
    const only = onlyClient(emission);
    const isMissing = async () => {
      const { notFound } = (await this.api.callInTurn({ method: 'POST', path: 'events', body: text })) as { notFound: string[] };
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
    await this.ofClient(clientId, () => this.api.call({ method: 'POST', path: `connections/${encodeURIComponent(clientId)}/rooms`, body: JSON.stringify({ rooms }) }));
  }

  async leave(clientId: string, rooms: readonly string[]): Promise<void> {
    const query = rooms.map((room) => `room=${encodeURIComponent(room)}`).join('&');
    await this.ofClient(clientId, () => this.api.call({ method: 'DELETE', path: `connections/${encodeURIComponent(clientId)}/rooms?${query}` }));
  }

  /** Waits until roomcast has done all that concerns a client's last event: a change of its rooms takes its turn behind it. */
  fence(clientId: string): Promise<void> {
    return this.leave(clientId, [NO_ROOM]);
  }

  async disconnect(clientId: string): Promise<void> {
    await this.ofClient(clientId, () => this.api.call({ method: 'DELETE', path: `connections/${encodeURIComponent(clientId)}` }));
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
}

function onlyClient({ target: { clients, rooms } }: Emission): string | undefined {
  return clients.length === 1 && !rooms.length ? clients[0] : undefined;
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
