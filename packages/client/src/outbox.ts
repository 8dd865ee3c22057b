import { RoomcastError, isRefused, isTransient, type ClientCode } from './errors.js';
import type { Acknowledgements, Refused } from './events.js';
import { randomId } from './names.js';
import { Timers, backoff } from './timers.js';

/** The events that may be sent again with the same `idempotencyKey`. */
export type SendEvent = 'message' | 'channels' | 'sendMessage' | 'private-message' | 'custom-event';

/** The acknowledgement of an event that was not refused. */
export type Accepted<E extends keyof Acknowledgements> = Exclude<Acknowledgements[E], Refused>;

/** One event that waits for its acknowledgement. */
interface Item {
  readonly event: SendEvent;
  readonly payload: Record<string, unknown>;
  /** The room that it goes to, if it goes to one. */
  readonly room: string | undefined;
  /** The sender wants no copy. */
  readonly isSilent: boolean;
  /** Whether the id is the package's own: nobody else can have used it. */
  readonly hasOwnId: boolean;
  readonly done: (ack: unknown) => void;
  readonly failed: (error: RoomcastError) => void;
  readonly cancelDeadline: () => void;
  isUnderWay: boolean;
  /** The client that sent it last: its `socket.id`. */
  sentBy: string | undefined;
  /** Its offset, if the room's history has shown it before the acknowledgement came. */
  seenAt: number | undefined;
  tries: number;
}

/** What the outbox needs of the connection. */
export interface Sender {
  readonly isConnected: boolean;
  readonly clientId: string | undefined;
  /** Whether the server knows a user, so that keys count beyond this connection. */
  readonly hasUser: boolean;
  /** Whether the client is in the room: `catching up` if what it missed is still under way. */
  standing(room: string): 'live' | 'catching up' | 'absent';
  ask(event: string, payload: unknown): Promise<unknown>;
  wait(milliseconds: number): Promise<void>;
  /** The room's message with this offset is the client's own, and it wants no copy. */
  isOwn(room: string, offset: number): void;
}

export interface OutboxOptions {
  /** How long to try, in milliseconds. Less than the server's `IDEMPOTENCY_WINDOW`. */
  sendTimeout: number;
  /** How many events may wait. */
  maxPending: number;
}

/**
 * Events on their way to the server. Each has one idempotency key for all its tries. Events for the same room, or for the same user,
 * are sent one after the other, so that a refusal for a moment or a lost connection does not change their order.
 */
export class Outbox {
  readonly #lanes = new Map<string, Item[]>();
  readonly #deadlines = new Timers();
  #count = 0;

  constructor(
    private readonly sender: Sender,
    private readonly options: OutboxOptions,
  ) {}

  get size(): number {
    return this.#count;
  }

  send<E extends SendEvent>(event: E, content: Record<string, unknown>, room?: string): Promise<Accepted<E>> {
    if (this.#count >= this.options.maxPending) {
      const message = `${this.#count} events wait already: wait for some of them, or raise maxPending`;
      return Promise.reject(new RoomcastError('outbox_full', message, event));
    }
    const hasOwnId = content['id'] === undefined && event !== 'custom-event';
    const payload = copyOf({
      ...content,
      ...(hasOwnId && { id: randomId() }),
      idempotencyKey: content['idempotencyKey'] ?? randomId(),
    }) as Record<string, unknown>;
    const isSilent = event === 'message' && room !== undefined && payload['omitSender'] === true;
    const lane = `${event === 'private-message' ? `user:${String(payload['targetUserId'] ?? payload['target'])}` : `room:${room ?? ''}`}`;
    return new Promise((done, failed) => {
      const late = () => this.#fail(lane, item, 'timeout', `no answer within ${this.options.sendTimeout} ms: the event may have been done`);
      const cancelDeadline = this.#deadlines.set(this.options.sendTimeout, late);
      const item: Item = {
        ...{ event, payload, room, isSilent, hasOwnId, done: done as (ack: unknown) => void, failed, cancelDeadline },
        ...{ isUnderWay: false, sentBy: undefined, seenAt: undefined, tries: 0 },
      };
      const items = this.#lanes.get(lane);
      if (items) items.push(item);
      else this.#lanes.set(lane, [item]);
      this.#count++;
      this.#pump(lane);
    });
  }

  /** The connection is there, or a room has caught up: sends what waits. */
  resume(): void {
    for (const lane of [...this.#lanes.keys()]) this.#pump(lane);
  }

  /** The connection broke: what was under way has to be sent again. */
  disconnected(): void {
    for (const items of this.#lanes.values()) for (const item of items) item.isUnderWay = false;
  }

  /** A room's message arrives. True if it is the client's own and it wants no copy. */
  sawMessage(room: string, id: unknown, offset: number): boolean {
    const item = this.#lanes.get(`room:${room}`)?.find((one) => one.sentBy !== undefined && one.payload['id'] === id);
    if (!item?.hasOwnId) return false;
    item.seenAt = offset;
    return item.isSilent;
  }

  failAll(code: ClientCode, message: string): void {
    for (const [lane, items] of [...this.#lanes]) for (const item of [...items]) this.#fail(lane, item, code, message);
  }

  /** Sends the first event of a lane, unless it is under way. */
  #pump(lane: string): void {
    const item = this.#lanes.get(lane)?.[0];
    if (!item || item.isUnderWay || !this.sender.isConnected) return;
    if (this.#isSettled(lane, item)) return this.#pump(lane);
    if (this.#waitsForHistory(item)) return;
    item.isUnderWay = true;
    item.sentBy = this.sender.clientId;
    void this.sender.ask(item.event, item.payload).then((ack) => this.#answered(lane, item, ack));
  }

  /** Whether a key of the server's counts for the next try, too. */
  #isRepeatable(item: Item): boolean {
    return item.sentBy === undefined || item.sentBy === this.sender.clientId || this.sender.hasUser;
  }

  /** A client without a user looks for its message in the room's history. */
  #waitsForHistory(item: Item): boolean {
    return !this.#isRepeatable(item) && item.room !== undefined && this.sender.standing(item.room) === 'catching up';
  }

  /** Settles an event that cannot be sent again safely. */
  #isSettled(lane: string, item: Item): boolean {
    if (this.#isRepeatable(item)) return false;
    if (item.seenAt !== undefined) {
      const { payload, room, seenAt: offset } = item;
      this.#done(lane, item, { success: true, id: payload['id'], roomName: room, timestamp: new Date().toISOString(), offset, duplicate: true });
      return true;
    }
    const isStored = item.event === 'message' || item.event === 'sendMessage' || item.event === 'channels';
    if (isStored && item.hasOwnId && item.room !== undefined && this.sender.standing(item.room) !== 'absent') return false;
    const message = 'the connection was lost before the answer came: the event may have been done. A client with a user (a token, or the option user) repeats it safely';
    this.#fail(lane, item, 'unconfirmed', message);
    return true;
  }

  async #answered(lane: string, item: Item, ack: unknown): Promise<void> {
    if (!item.isUnderWay || this.#lanes.get(lane)?.[0] !== item) return;
    if (!isRefused(ack)) return this.#done(lane, item, ack);
    if (!isTransient(ack)) {
      this.#remove(lane, item);
      item.failed(RoomcastError.refused(item.event, ack));
      return this.#pump(lane);
    }
    await this.sender.wait(ack.retryAfterMs ?? backoff(item.tries++));
    item.isUnderWay = false;
    this.#pump(lane);
  }

  #done(lane: string, item: Item, ack: unknown): void {
    const offset = (ack as { offset?: number }).offset;
    if (item.isSilent && item.room !== undefined && offset !== undefined) this.sender.isOwn(item.room, offset);
    this.#remove(lane, item);
    item.done(ack);
    this.#pump(lane);
  }

  #fail(lane: string, item: Item, code: ClientCode, message: string): void {
    this.#remove(lane, item);
    item.failed(new RoomcastError(code, message, item.event));
    this.#pump(lane);
  }

  #remove(lane: string, item: Item): void {
    item.cancelDeadline();
    item.isUnderWay = false;
    const items = this.#lanes.get(lane);
    const place = items?.indexOf(item) ?? -1;
    if (!items || place < 0) return;
    items.splice(place, 1);
    this.#count--;
    if (items.length === 0) this.#lanes.delete(lane);
  }
}

/** A copy of what JSON is made of, so that each try sends the same. Everything else, such as binary data, is kept as it is. */
function copyOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copyOf);
  if (typeof value !== 'object' || value === null) return value;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, copyOf(one)]));
}
