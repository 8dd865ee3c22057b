import { RoomcastError, isRefused, isTransient } from './errors.js';
import type { Refused, RoomAcknowledge, SyncAcknowledge } from './events.js';
import { Held, type Deliver } from './held.js';
import { RecentSet } from './seen.js';
import { backoff } from './timers.js';

/** Where a client is in a room's history. Offsets of different epochs cannot be compared. */
export interface Position {
  offset: number;
  epoch?: string;
}

/** The client is a member of the room, and has received what it missed. */
export interface Joined {
  /** Whether everything that was missed has been delivered. False: see `gap` and `reset`. */
  complete: boolean;
  position: Position | undefined;
}

/** Messages that cannot be had any more. */
export interface Gap {
  /** The first and the last offset. */
  from: number;
  to: number;
  /** `trimmed`: the history no longer has them. Otherwise the code of the refusal, such as `forbidden`. */
  reason: string;
}

/** The history that the client knew is gone. What the new one holds follows; reload what was built from the old one. */
export interface Reset {
  before: Position;
  /** The oldest offset of the new history. */
  oldestOffset: number;
  /** `epoch`: the history was lost. `ahead`: the position lies ahead of the history. `no_history`: the server keeps none any more. */
  reason: 'epoch' | 'ahead' | 'no_history';
}

/** What happens to a membership. */
export interface RoomStates {
  joined: (joined: Joined) => void;
  gap: (gap: Gap) => void;
  reset: (reset: Reset) => void;
  /** The server refuses the join. It is tried again at the next connection, or with the next token. */
  refused: (error: RoomcastError) => void;
  /** A backend, or a token that permits less, has put the client out of the room. */
  left: () => void;
}

/** What a membership needs of the connection. */
export interface Connection {
  readonly isConnected: boolean;
  /** Emits an event. `answered` is called before anything arrives that is newer. The answer never comes if the connection breaks. */
  ask(event: string, payload: unknown, answered: () => void): Promise<unknown>;
  /** Waits, unless the connection breaks. */
  wait(milliseconds: number): Promise<void>;
  tell<K extends keyof RoomStates>(membership: Membership, state: K, ...args: Parameters<RoomStates[K]>): void;
  /** Nobody wants to be in the room any more, and the server knows. */
  forget(membership: Membership): void;
}

type State = 'away' | 'catching up' | 'live' | 'refused';

/** The largest page that the server sends. */
const PAGE = 1000;

/**
 * One room: joins, catches up, and joins again after each reconnect.
 *
 * Messages arrive in order of their offsets. While it is not known what comes before them (a join or a page is under way) they
 * are held. `#run` numbers the attempts: an answer to a former one counts for nothing.
 */
export class Membership {
  position: Position | undefined;
  /** Whether anybody wants to be in the room. */
  isWanted = false;
  /** Offsets of the client's own messages of which it wants no copy. */
  readonly own = new RecentSet<number>(1000);
  #state: State = 'away';
  #isLeaving = false;
  #isNumbered = true;
  #run = 0;
  #isComplete = true;
  readonly #held = new Held();

  constructor(
    readonly name: string,
    private readonly connection: Connection,
  ) {}

  get isLive(): boolean {
    return this.#state === 'live';
  }

  /** Whether everything that was missed before the last join has been delivered. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Whether a replay or a page may be under way. */
  get isCatchingUp(): boolean {
    return this.#state === 'catching up';
  }

  /** Wants to be in the room, from a position on, or from now on. */
  enter(from?: Position): void {
    this.isWanted = true;
    this.position = from;
    if (this.connection.isConnected && !this.#isLeaving) void this.#join();
  }

  leave(): void {
    const mayBeThere = this.connection.isConnected && this.#state !== 'refused';
    this.isWanted = false;
    this.#end('away');
    if (this.#isLeaving) return;
    if (mayBeThere) void this.#tellLeft();
    else this.connection.forget(this);
  }

  /** There is a connection. With `recovered` it goes on where the last one broke off. */
  connected(recovered: boolean): void {
    if (!this.isWanted || (recovered && this.#state === 'live')) return;
    void this.#join();
  }

  /** The connection broke. A room that was live stays so for a connection that is recovered. */
  disconnected(): void {
    this.#isLeaving = false;
    this.#end(this.#state === 'live' ? 'live' : 'away');
    if (!this.isWanted) this.connection.forget(this);
  }

  /** Tries again what was refused. */
  retry(): void {
    if (this.#state === 'refused' && this.isWanted && this.connection.isConnected) void this.#join();
  }

  /** The server says that the client is no longer in the room. */
  removed(): void {
    if (!this.isWanted || this.#isLeaving || this.#state === 'away') return;
    this.isWanted = false;
    this.#end('away');
    this.connection.tell(this, 'left');
    this.connection.forget(this);
  }

  /** A numbered message of the room arrives. */
  receive(offset: number, deliver: Deliver): void {
    if (!this.isWanted) return;
    if (!this.#isNumbered) deliver();
    else if (this.#state !== 'live' || !this.position) this.#held.add(offset, deliver);
    else if (offset > this.position.offset) this.#deliver(offset, deliver);
    // Live delivery repeats nothing: the room has a new history, which the join reads, or somebody read the old one past this package.
    else void this.#join();
  }

  #end(state: State): void {
    this.#run++;
    this.#state = state;
    this.#held.clear();
  }

  async #tellLeft(): Promise<void> {
    this.#isLeaving = true;
    // A refusal that is final changes nothing: the client forgets the room. No answer: the connection broke.
    await this.#ask('leave-room', { roomName: this.name }, () => true);
    this.#isLeaving = false;
    if (this.isWanted) void this.#join();
    else this.connection.forget(this);
  }

  /** Asks, and asks again while the refusal is transient. `undefined` if the answer no longer matters. */
  async #ask<T>(event: string, payload: unknown, matters: () => boolean): Promise<T | Refused | undefined> {
    for (let tries = 0; ; tries++) {
      const ack = await this.connection.ask(event, payload, () => this.#held.answered());
      if (!matters()) return undefined;
      if (!isRefused(ack) || !isTransient(ack)) return ack as T | Refused;
      await this.connection.wait(ack.retryAfterMs ?? backoff(tries));
      if (!matters()) return undefined;
    }
  }

  async #join(): Promise<void> {
    this.#end('catching up');
    const run = this.#run;
    const current = () => run === this.#run;
    const before = this.position;
    this.#isComplete = true;
    const join = { roomName: this.name, ...before };
    let ack = await this.#ask<RoomAcknowledge>('join-room', join, current);
    let isReadable = true;
    if (ack && isRefused(ack) && ack.code === 'forbidden' && before) {
      // The token may permit joining and not reading.
      isReadable = false;
      ack = await this.#ask<RoomAcknowledge>('join-room', { roomName: this.name }, current);
    }
    if (!ack) return;
    if (isRefused(ack)) {
      this.#end('refused');
      this.connection.tell(this, 'refused', RoomcastError.refused('join-room', ack));
    } else if (ack.offset === undefined || ack.epoch === undefined) {
      this.#enterUnnumbered(before);
    } else {
      const head = { offset: ack.offset, epoch: ack.epoch };
      if (!before) this.#enterAt(head);
      else if (ack.recovered) this.#enterRecovered(before, head);
      else this.#enterBehind(before, head, isReadable ? (ack.oldestOffset ?? 1) : head.offset + 1);
      await this.#page(Math.max(head.offset, this.#held.dropped?.newest ?? 0), isReadable, current);
    }
  }

  /** The server keeps no history: messages have no offsets, or such of their senders'. */
  #enterUnnumbered(before: Position | undefined): void {
    this.#isNumbered = false;
    this.position = undefined;
    if (before?.epoch !== undefined) this.#tellReset(before, 1, 'no_history');
    this.#goLive();
  }

  /** A newcomer begins at the head. What came before the answer came live: somebody else has put the client into the room. */
  #enterAt(head: Position): void {
    this.#isNumbered = true;
    this.position = head;
    for (const [, deliver] of this.#held.take()) deliver();
  }

  /** Everything after `before` has arrived. */
  #enterRecovered(before: Position, head: Required<Position>): void {
    const reached = Math.min(head.offset, (this.#held.dropped?.oldest ?? Infinity) - 1);
    this.#isNumbered = true;
    this.position = { offset: before.offset, epoch: head.epoch };
    this.#catchUp(reached);
  }

  /** Nothing was replayed. */
  #enterBehind(before: Position, head: Required<Position>, oldest: number): void {
    const isSame = before.epoch === undefined || before.epoch === head.epoch;
    this.#isNumbered = true;
    if (isSame && before.offset <= head.offset) {
      this.position = { offset: before.offset, epoch: head.epoch };
      return;
    }
    this.own.clear();
    // What came before the answer is of a former history, or is read now.
    this.#held.take();
    this.position = { offset: oldest - 1, epoch: head.epoch };
    this.#tellReset(before, oldest, isSame ? 'ahead' : 'epoch');
  }

  /** Reads the history up to this offset, and goes live. */
  async #page(target: number, isReadable: boolean, current: () => boolean): Promise<void> {
    while (current() && this.position && this.position.offset < target) {
      const { offset, epoch } = this.position;
      if (!isReadable) {
        this.#skip(target, 'forbidden');
        break;
      }
      const query = { roomName: this.name, offset, limit: PAGE };
      const page = await this.#ask<SyncAcknowledge>('syncMessages', query, current);
      if (!page) return;
      if (isRefused(page)) this.#skip(target, page.code);
      else if (page.epoch !== epoch) return void this.#join();
      else {
        const first = page.offset - page.syncedMessageCount + 1;
        if (page.syncedMessageCount === 0) this.#skip(target, 'trimmed');
        else if (first > offset + 1) this.#skip(first - 1, 'trimmed');
        this.#catchUp(page.offset);
      }
      // More than could be held came meanwhile: it has to be read, too.
      target = Math.max(target, this.#held.dropped?.newest ?? 0);
      this.#held.dropped = undefined;
    }
    if (current()) this.#goLive();
  }

  /** Tells that the messages up to this offset cannot be had. */
  #skip(to: number, reason: string): void {
    if (!this.position || to <= this.position.offset) return;
    this.#isComplete = false;
    const from = this.position.offset + 1;
    this.position = { ...this.position, offset: to };
    this.connection.tell(this, 'gap', { from, to, reason });
  }

  #tellReset(before: Position, oldestOffset: number, reason: Reset['reason']): void {
    this.#isComplete = false;
    this.connection.tell(this, 'reset', { before, oldestOffset, reason });
  }

  /** Delivers what is held up to this offset. The client then has everything up to it. */
  #catchUp(reached: number): void {
    const run = this.#run;
    for (const [offset, deliver] of this.#held.take(reached)) {
      this.#deliver(offset, deliver);
      // A listener may have left the room.
      if (run !== this.#run) return;
    }
    if (this.position && reached > this.position.offset && reached !== Infinity) this.position = { ...this.position, offset: reached };
  }

  #goLive(): void {
    const run = this.#run;
    if (this.#isNumbered) this.#catchUp(Infinity);
    else for (const [, deliver] of this.#held.take()) deliver();
    if (run !== this.#run) return;
    this.#state = 'live';
    this.connection.tell(this, 'joined', { complete: this.#isComplete, position: this.position });
    for (const [offset, deliver] of this.#held.takeSince()) this.receive(offset, deliver);
  }

  /** Delivers a message unless the client has it. */
  #deliver(offset: number, deliver: Deliver): void {
    if (!this.position || offset <= this.position.offset) return;
    this.position = { ...this.position, offset };
    if (!this.own.has(offset)) deliver();
  }
}
