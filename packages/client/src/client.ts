import { io, type Socket } from 'socket.io-client';
import { RoomcastError, isRefused } from './errors.js';
import type { Kind, Name, Status, Success } from './events.js';
import { Listeners, type EventMap } from './listeners.js';
import { Membership, type Connection, type Position, type RoomStates } from './membership.js';
import { isOffset, readKey, roomOf, type RoomKey } from './names.js';
import type { ClientOptions, ClientStates, RequestMap } from './options.js';
import { Outbox, type Accepted, type SendEvent, type Sender } from './outbox.js';
import { Presence } from './presence.js';
import { Room, type Received, type RoomHost } from './room.js';
import { RecentSet, hashOf } from './seen.js';
import { Timers, backoff } from './timers.js';
import { endFailedUpgrades } from './upgrade.js';
import { fetchToken, renewalDelay, type TokenContent, type TokenSource } from './token.js';

/** The events by which the server delivers numbered messages, and that clients cannot forge by `custom-event`. */
const NUMBERED = new Set(['message-reply', 'newMessage', 'resource-update']);

/** After this time a connection counts as stable, and the next failure as the first. */
const STABLE_MS = 10_000;

/** A connection to roomcast that comes back by itself, with its rooms, its user and what it has to send. */
export class Client<E extends EventMap<E> = {}, R extends RequestMap<R> = {}> {
  /** The socket of socket.io-client, for what this package does not do. */
  readonly socket: Socket;
  readonly #options: ClientOptions;
  readonly #events = new Listeners();
  readonly #states = new Listeners();
  readonly #memberships = new Map<string, Membership>();
  readonly #rooms = new Map<Membership, Set<Room>>();
  readonly #outbox: Outbox;
  readonly #presence = new Presence();
  readonly #requests = new Set<(error: RoomcastError) => void>();
  /** What was delivered and may be delivered again: private messages by who sent them, others by their content. */
  readonly #privates = new RecentSet<string>(2000);
  readonly #others = new RecentSet<number>(5000);
  /** Timers of this connection, and of the way to the next one. */
  readonly #timers = new Timers();
  readonly #reconnects = new Timers();
  /** Numbers the connections, so that answers to a former one do not count. */
  #session = 0;
  #attempt = 0;
  #failures = 0;
  #isReady = false;
  #isClosed = false;
  #token: TokenContent | undefined;
  #user: string | undefined;
  #status: Status | undefined;

  constructor(url: string, options: ClientOptions = {}) {
    this.#options = options;
    this.#outbox = new Outbox(this.#sender(), { sendTimeout: options.sendTimeout ?? 60_000, maxPending: options.maxPending ?? 1000 });
    this.socket = io(url, { ...options.socket, autoConnect: false, auth: (done) => void this.#authorize(done) });
    this.socket.on('connect', () => this.#connected());
    this.socket.on('disconnect', (reason) => this.#disconnected(reason));
    this.socket.on('connect_error', (error) => this.#refused(error));
    this.socket.onAny((event: string, ...args: unknown[]) => this.#arrived(event, args));
    endFailedUpgrades(this.socket.io);
    this.socket.connect();
  }

  get isConnected(): boolean {
    return this.#isReady && this.socket.connected;
  }

  /** The id of this client, while it is connected. */
  get clientId(): string | undefined {
    return this.socket.id;
  }

  /** The user, as far as the client knows it. */
  get user(): string | undefined {
    return this.#user;
  }

  /** The number of sends that wait for their acknowledgement. */
  get pending(): number {
    return this.#outbox.size;
  }

  /** What was heard of the presence of users on this connection. */
  get presence(): Pick<Presence, 'of' | 'online'> {
    return this.#presence;
  }

  /** Listens to an event, in whatever room. Messages of joined rooms come in order, each once. The answer removes the listener. */
  on<K extends keyof Received<E> & string>(event: K, listener: Received<E>[K]): () => void {
    return this.#events.add(event, listener as never);
  }

  /** Listens to what happens to the connection. The answer removes the listener. */
  when<K extends keyof ClientStates>(state: K, listener: ClientStates[K]): () => void {
    return this.#states.add(state, listener as never);
  }

  /**
   * Joins a room, and joins it again after each reconnect. With a position, everything after it comes first; `{ offset: 0 }` brings all that
   * is kept. For a room that is joined already the position does not count: it goes on where it is.
   */
  join(key: RoomKey, from?: Position): Room<E> {
    if (this.#isClosed) throw new RoomcastError('closed', 'the client is closed');
    const { name, field } = readKey(key);
    const membership = this.#memberships.get(name) ?? new Membership(name, this.#connection());
    this.#memberships.set(name, membership);
    const room = new Room<E>(name, field, this.#host(), membership);
    const rooms = this.#rooms.get(membership) ?? new Set();
    this.#rooms.set(membership, rooms.add(room as unknown as Room));
    if (!membership.isWanted) membership.enter(from);
    return room;
  }

  /** Sends an event once, whatever becomes of the connection. For a room that is joined, use `room.send()` and the like. */
  send<K extends SendEvent>(event: K, payload: object): Promise<Accepted<K>> {
    return this.#send(event, { ...payload }, roomOf(payload));
  }

  /** Sends a message to everyone in the namespace. */
  broadcast(text: unknown, more: object = {}): Promise<Accepted<'message'>> {
    return this.#send('message', { ...more, text });
  }

  /** Sends a private message to a user. The answer says whether it was delivered, or waits until the user connects. */
  sendTo(userId: Name, message: unknown, messageType: Kind = 'text'): Promise<Accepted<'private-message'>> {
    return this.#send('private-message', { targetUserId: userId, message, messageType });
  }

  /** Sends an event of the application's own and waits for the answer of its backend. It is sent once: it fails if the connection breaks. */
  request<K extends keyof R & string>(event: K, ...payload: Parameters<R[K]>): Promise<Awaited<ReturnType<R[K]>>> {
    return this.#request(event, payload[0]) as Promise<Awaited<ReturnType<R[K]>>>;
  }

  /** Sets the user's status, now and after each reconnect. */
  setStatus(status: Status): Promise<Success> {
    this.#status = status;
    return quiet(this.#request('presenceUpdate', { status })) as Promise<Success>;
  }

  /** Ends the connection for good. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#attempt++;
    this.#outbox.failAll('closed', 'the client was closed: the event may have been done');
    this.socket.disconnect();
    this.#reconnects.clear();
    this.#timers.clear();
    for (const rooms of this.#rooms.values()) for (const room of [...rooms]) room.close();
    this.#rooms.clear();
    this.#memberships.clear();
    this.#states.clear();
    this.#events.clear();
  }

  // The connection

  async #authorize(done: (data: object) => void): Promise<void> {
    const attempt = ++this.#attempt;
    const { auth, clientName, token } = this.#options;
    const data = { ...auth, ...(clientName !== undefined && { clientName }) };
    if (!token) return done(data);
    try {
      const content = await fetchToken(token);
      if (attempt !== this.#attempt) return;
      this.#token = content;
      done({ ...data, token: content.token });
    } catch (error) {
      if (attempt !== this.#attempt) return;
      this.#states.call('token-failed', error);
      this.socket.disconnect();
      this.#reconnect();
    }
  }

  #connected(): void {
    const recovered = this.socket.recovered === true;
    this.#session++;
    this.#timers.set(STABLE_MS, () => (this.#failures = 0));
    this.#identify(recovered);
    this.#isReady = true;
    if (!recovered) {
      this.#presence.clear();
      this.#states.call('presence-reset');
      if (this.#status) void quiet(this.#request('presenceUpdate', { status: this.#status }));
    }
    for (const membership of [...this.#memberships.values()]) membership.connected(recovered);
    this.#outbox.resume();
    this.#states.call('connected', { clientId: this.socket.id as string, recovered });
  }

  /** The server learns the user, if it does not know it from the handshake. */
  #identify(recovered: boolean): void {
    const { user: claimed, token } = this.#options;
    const user = token ? this.#token?.user : claimed === undefined ? undefined : String(claimed);
    if (this.#user !== undefined && user !== this.#user) {
      this.#outbox.failAll('user_changed', 'the client is another user now: the event may have been done for the former one');
      this.#privates.clear();
    }
    this.#user = user;
    // Events are done in order: whatever follows is the user's.
    if (!token && user !== undefined && !recovered) this.socket.emit('authenticate', { userId: user });
    if (token) this.#planRenewal();
  }

  #disconnected(reason: string): void {
    this.#attempt++;
    this.#session++;
    this.#isReady = false;
    this.#timers.clear();
    for (const membership of [...this.#memberships.values()]) membership.disconnected();
    this.#outbox.disconnected();
    const error = new RoomcastError('disconnected', `the connection was lost (${reason}) before the answer came`);
    for (const failed of [...this.#requests]) failed(error);
    this.#states.call('disconnected', { reason });
    // The server has ended it: socket.io-client does not come back by itself.
    if (reason === 'io server disconnect') this.#reconnect();
  }

  #refused(error: Error & { data?: { code?: string; retryAfterMs?: number } }): void {
    if (this.socket.active) {
      this.#states.call('unreachable', error);
      return;
    }
    const { code = 'unauthorized', retryAfterMs } = error.data ?? {};
    this.#states.call('refused', new RoomcastError(code, error.message, undefined, error.data));
    // No token and no patience helps if the namespace does not exist.
    if (code !== 'not_found') this.#reconnect(retryAfterMs);
  }

  #reconnect(afterMs = 0): void {
    if (this.#isClosed) return;
    this.#reconnects.clear();
    this.#reconnects.set(Math.max(afterMs, backoff(this.#failures++)), () => this.socket.connect());
  }

  #planRenewal(): void {
    const lastsMs = this.#token?.lastsMs;
    if (lastsMs === undefined) return;
    this.#timers.set(renewalDelay(lastsMs, this.#options.renewBefore ?? 60_000), () => void this.#renew(0));
  }

  async #renew(tries: number): Promise<void> {
    const session = this.#session;
    const again = (error: unknown) => {
      if (session !== this.#session) return;
      this.#states.call('token-failed', error);
      this.#timers.set(backoff(tries, { first: 1000 }), () => void this.#renew(tries + 1));
    };
    try {
      const content = await fetchToken(this.#options.token as TokenSource);
      if (session !== this.#session) return;
      if (content.user !== this.#token?.user) {
        // A connection belongs to one user.
        this.socket.disconnect().connect();
        return;
      }
      const ack = await this.#ask('authenticate', { ...(content.user !== undefined && { userId: content.user }), token: content.token });
      if (isRefused(ack)) return again(RoomcastError.refused('authenticate', ack));
      this.#token = content;
      this.#planRenewal();
      for (const membership of [...this.#memberships.values()]) membership.retry();
    } catch (error) {
      again(error);
    }
  }

  #ask(event: string, payload: unknown, answered = () => {}): Promise<unknown> {
    const session = this.#session;
    return new Promise((done) => {
      this.socket.emit(event, payload, (ack: unknown) => {
        if (session !== this.#session) return;
        answered();
        done(ack);
      });
    });
  }

  #request(event: string, payload: unknown): Promise<unknown> {
    if (!this.isConnected) return Promise.reject(new RoomcastError('disconnected', 'there is no connection', event));
    return new Promise((done, failed) => {
      this.#requests.add(failed);
      void this.#ask(event, payload).then((ack) => {
        this.#requests.delete(failed);
        if (isRefused(ack)) failed(RoomcastError.refused(event, ack));
        else done(ack);
      });
    });
  }

  #send<K extends SendEvent>(event: K, payload: Record<string, unknown>, room?: string): Promise<Accepted<K>> {
    if (this.#isClosed) return Promise.reject(new RoomcastError('closed', 'the client is closed', event));
    return this.#outbox.send(event, payload, room);
  }

  // What arrives

  #arrived(event: string, all: unknown[]): void {
    const args = typeof this.socket.recovered === 'boolean' ? withoutMark(all) : all;
    const payload = args[0];
    const room = roomOf(payload);
    if (event === 'private-message' && !this.#privates.add(privateKey(payload))) return;
    const membership = room === undefined ? undefined : this.#memberships.get(room);
    const offset = (payload as { offset?: unknown } | null | undefined)?.offset;
    if (isOffset(offset)) {
      if (!NUMBERED.has(event)) {
        if (!this.#isNew(event, payload)) return;
      } else if (membership && room !== undefined) {
        const { id } = payload as { id?: unknown };
        membership.receive(offset, () => {
          if (!this.#outbox.sawMessage(room, id, offset)) this.#deliver(event, args, membership);
        });
        return;
      }
    }
    this.#heed(event, payload, membership);
    this.#deliver(event, args, membership);
  }

  /** What the client itself learns from an event. */
  #heed(event: string, payload: unknown, membership: Membership | undefined): void {
    if (event === 'room-left') membership?.removed();
    const userId = this.#presence.heard(event, payload);
    if (userId !== undefined) this.#states.call('presence', userId, this.#presence.of(userId));
  }

  /**
   * Whether an event of the application's own with an offset is new. Clients can forge such events by `custom-event`, so their offsets
   * are not believed: only what has the very same content, and arrives while a room catches up, was there before.
   */
  #isNew(event: string, payload: unknown): boolean {
    const isNew = this.#others.add(hashOf(event + JSON.stringify(payload)));
    return isNew || ![...this.#memberships.values()].some(({ isCatchingUp }) => isCatchingUp);
  }

  #deliver(event: string, args: unknown[], membership: Membership | undefined): void {
    const rooms = membership && this.#rooms.get(membership);
    if (rooms) for (const room of [...rooms]) room.arrived(event, args);
    this.#events.call(event, ...args);
  }

  // What rooms and the outbox need

  #connection(): Connection {
    const client = this;
    return {
      get isConnected() {
        return client.isConnected;
      },
      ask: (event, payload, answered) => this.#ask(event, payload, answered),
      wait: (milliseconds) => new Promise((done) => this.#timers.set(milliseconds, done)),
      tell: (membership, state, ...args) => this.#tell(membership, state, args),
      forget: (membership) => {
        if (this.#memberships.get(membership.name) === membership) this.#memberships.delete(membership.name);
        this.#rooms.delete(membership);
      },
    };
  }

  #sender(): Sender {
    const client = this;
    const { wait } = this.#connection();
    return {
      get isConnected() {
        return client.isConnected;
      },
      get clientId() {
        return client.clientId;
      },
      get hasUser() {
        return client.#token !== undefined || client.#user !== undefined;
      },
      standing: (room) => {
        const membership = this.#memberships.get(room);
        if (membership?.isCatchingUp) return 'catching up';
        return membership?.isLive && membership.isComplete ? 'live' : 'absent';
      },
      ask: (event, payload) => this.#ask(event, payload),
      wait,
      isOwn: (room, offset) => this.#memberships.get(room)?.own.add(offset),
    };
  }

  #host(): RoomHost {
    return {
      send: (event, payload, room) => this.#send(event, payload, room),
      request: (event, payload) => quiet(this.#request(event, payload)),
      left: (room, membership) => {
        const rooms = this.#rooms.get(membership);
        if (rooms?.delete(room) && rooms.size === 0) membership.leave();
      },
    };
  }

  #tell(membership: Membership, state: keyof RoomStates, args: unknown[]): void {
    for (const room of [...(this.#rooms.get(membership) ?? [])]) room.told(state, args);
    // What waited for the room's history need not wait any more.
    if (state === 'joined' || state === 'refused') this.#outbox.resume();
  }
}

/** Connects to a server. The namespace is the path of the address. */
export const connect = <E extends EventMap<E> = {}, R extends RequestMap<R> = {}>(url: string, options?: ClientOptions): Client<E, R> =>
  new Client<E, R>(url, options);

/** A promise whose rejection may be ignored: of signals. */
function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

/** The arguments without the mark that the server adds for connection state recovery. */
function withoutMark(args: unknown[]): unknown[] {
  const place = typeof args.at(-1) === 'function' ? args.length - 2 : args.length - 1;
  return place > 0 && typeof args[place] === 'string' ? args.filter((_, index) => index !== place) : args;
}

/** What tells a private message from all others: ids belong to their senders, and need not be unique. */
function privateKey(payload: unknown): string {
  const { from, clientId, id, timestamp } = (payload ?? {}) as Record<string, unknown>;
  return JSON.stringify([from ?? clientId, id, timestamp]);
}
