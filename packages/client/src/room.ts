import { RoomcastError } from './errors.js';
import type { MessageId, Name, ReceiptAcknowledge, ServerToClientEvents, Success } from './events.js';
import { Listeners, type EventMap } from './listeners.js';
import type { Joined, Membership, Position, RoomStates } from './membership.js';
import type { Accepted, SendEvent } from './outbox.js';

/** What clients of this application receive: the events of the server, and those of its own. */
export type Received<E> = Omit<ServerToClientEvents, keyof E> & E;

/** What a room needs of its client. */
export interface RoomHost {
  send<K extends SendEvent>(event: K, payload: Record<string, unknown>, room: string): Promise<Accepted<K>>;
  request(event: string, payload: unknown): Promise<unknown>;
  left(room: Room, membership: Membership): void;
}

/**
 * A room that the client is in. It recovers by itself: its messages arrive in order, each once, whatever becomes of the connection. What
 * cannot be had is told by `gap` and `reset`.
 */
export class Room<E extends EventMap<E> = {}> {
  /** Resolves when the client is in the room for the first time; rejects if the server refuses that. */
  readonly joined: Promise<Joined>;
  readonly #events = new Listeners();
  readonly #states = new Listeners();
  #isOpen = true;

  /** @internal */
  constructor(
    /** The room's name. */
    readonly name: string,
    private readonly field: Record<string, Name>,
    private readonly host: RoomHost,
    private readonly membership: Membership,
  ) {
    this.joined = new Promise((done, failed) => {
      if (membership.isLive) done({ complete: true, position: membership.position });
      this.#states.add('joined', done as never);
      this.#states.add('refused', failed as never);
      this.#states.add('closed', () => failed(new RoomcastError('left', `the room ${name} was left`)));
    });
    // Whoever does not wait for it hears of it by `refused`.
    this.joined.catch(() => {});
  }

  /** The newest offset that was delivered, and its epoch. Keep it to go on from there: `client.join(name, position)`. */
  get position(): Position | undefined {
    return this.membership.position;
  }

  /** Listens to an event in this room. The answer removes the listener. */
  on<K extends keyof Received<E> & string>(event: K, listener: Received<E>[K]): () => void {
    return this.#events.add(event, listener as never);
  }

  /** Listens to what happens to the room: `joined`, `gap`, `reset`, `refused`, `left`. The answer removes the listener. */
  when<K extends keyof RoomStates>(state: K, listener: RoomStates[K]): () => void {
    return this.#states.add(state, listener as never);
  }

  /**
   * Sends a `message`: the members get `message-reply`, this client too. With `copy: false` it gets no copy, and learns the offset from
   * the answer.
   */
  send(content: object, { copy = true } = {}): Promise<Accepted<'message'>> {
    const says = 'omitSender' in content || 'replyToSender' in content;
    const rule = says ? {} : copy ? { replyToSender: true } : { omitSender: true };
    return this.#send('message', { ...this.field, ...rule, ...content });
  }

  /** Sends a chat message (`sendMessage`): the members get `newMessage`, this client too. */
  say(content: unknown, more: object = {}): Promise<Accepted<'sendMessage'>> {
    return this.#send('sendMessage', { ...this.field, ...more, content });
  }

  /** Sends an update of a resource (`channels`): the members get `resource-update`, this client too. */
  update(content: object): Promise<Accepted<'channels'>> {
    return this.#send('channels', { ...this.field, ...content });
  }

  /** Sends an event of your own (`custom-event`) to the other members. It is a signal: neither numbered nor stored. */
  signal(event: string, data?: unknown): Promise<Accepted<'custom-event'>> {
    return this.#send('custom-event', { ...this.field, event, data });
  }

  /** Tells the other members whether this client is typing. */
  typing(isTyping: boolean): Promise<Success> {
    return this.host.request('typingIndicator', { ...this.field, isTyping }) as Promise<Success>;
  }

  /** Tells the members that a message was read. */
  read(messageId: MessageId): Promise<ReceiptAcknowledge> {
    return this.host.request('readReceipt', { ...this.field, messageId }) as Promise<ReceiptAcknowledge>;
  }

  /** Leaves the room. If it was joined more than once, the client stays in it for the others. */
  leave(): void {
    if (!this.#isOpen) return;
    this.close();
    this.host.left(this, this.membership);
  }

  /** @internal An event arrives in the room. */
  arrived(event: string, args: unknown[]): void {
    this.#events.call(event, ...args);
  }

  /** @internal */
  told(state: keyof RoomStates, args: unknown[]): void {
    this.#states.call(state, ...args);
    if (state === 'left') this.close();
  }

  /** @internal Nothing more is heard of it. */
  close(): void {
    this.#isOpen = false;
    this.#states.call('closed');
    this.#events.clear();
    this.#states.clear();
  }

  #send<K extends SendEvent>(event: K, payload: Record<string, unknown>): Promise<Accepted<K>> {
    if (!this.#isOpen) return Promise.reject(new RoomcastError('left', `the room ${this.name} was left`, event));
    return this.host.send(event, payload, this.name);
  }
}
