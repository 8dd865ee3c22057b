import { EventEmitter } from 'node:events';
import { type Identity, perform, underWay } from './answering';
import { eventName, roomNames } from './names';
import { isPlain, RoomcastBroadcastOperator } from './operator';
import type { Outbox } from './outbox';
import type { ClientFacts, HandshakeFacts, RoomcastRequest } from './requests';
import { Refused } from './refused';
import type { RoomcastNamespace, RoomcastServer } from './server';
import { RoomcastUnsupportedError, unsupported } from './unsupported';
import { argumentsText, decode } from './values';

/** An acknowledgement of an event. */
export type Ack = (...args: unknown[]) => void;

/** What a client said as it connected, as Socket.IO's server has it. */
export interface RoomcastHandshake {
  auth: Record<string, unknown>;
  query: Record<string, string | string[]>;
  headers: Record<string, string>;
  address: string;
  time: string;
  issued: number;
  url: string;
  xdomain: boolean;
  secure: boolean;
}

/** A handler of a gateway. */
export interface BoundHandler {
  /** Whether it acknowledges by itself. */
  acknowledges: boolean;
  /** Runs it; resolves when it has ended, or goes on as a stream: with true if the stream may still acknowledge. */
  run: (data: unknown, ack: Ack | undefined) => Promise<boolean>;
}

/** What happened to an event. */
export interface Dispatched {
  isHandled: boolean;
  /** Whether an acknowledgement may still come when all handlers have ended. */
  mayAcknowledge: boolean;
}

type PacketMiddleware = (event: [string, ...unknown[]], next: (error?: Error) => void) => void;

/** A client, as a process of the application knows it. */
export class RoomcastSocket extends EventEmitter {
  readonly id: string;
  readonly nsp: RoomcastNamespace;
  /** The rooms that it is in, its own among them. */
  readonly rooms: Set<string>;
  /** An object of the application's own that roomcast keeps for the client: up to 4 KB of JSON. */
  data: Record<string, unknown> = {};
  userId: string | null;
  clientName: string;
  claims: Record<string, unknown> | null;
  connected = true;
  readonly recovered = false;
  declare readonly client: never;
  declare readonly adapter: never;
  declare readonly local: never;

  /** When a request about it came last, in milliseconds since 1970. */
  seenAt = Date.now();
  /** How many answers about it are under way. */
  answers = 0;
  /** The data that roomcast has. */
  knownData = '{}';
  /** Handlers of gateways by their events. */
  readonly handlers = new Map<string, BoundHandler[]>();
  /** What gateways do when it has gone. */
  readonly endings: ((reason: string) => void)[] = [];
  private readonly middlewares: PacketMiddleware[] = [];
  private readonly anyListeners: ((...args: unknown[]) => void)[] = [];
  private saidHandshake?: RoomcastHandshake;
  private transport: string;
  private address: string;

  constructor(
    namespace: RoomcastNamespace,
    private readonly outbox: Outbox,
    request: RoomcastRequest,
  ) {
    super();
    this.setMaxListeners(0);
    this.id = request.client.clientId;
    this.nsp = namespace;
    this.rooms = new Set([this.id]);
    ({ userId: this.userId, clientName: this.clientName, claims: this.claims, transport: this.transport } = request.client);
    this.address = request.client.address ?? '';
    this.refresh(request.client, request.handshake);
  }

  /** Takes over what roomcast says of the client. */
  refresh(facts: ClientFacts, handshake?: HandshakeFacts): void {
    this.seenAt = Date.now();
    this.userId = facts.userId;
    this.clientName = facts.clientName;
    this.claims = facts.claims;
    this.transport = facts.transport;
    this.setRooms(facts.rooms);
    const text = JSON.stringify(facts.data);
    // The same as before: what this process keeps beside it stays.
    if (text !== this.knownData) {
      this.data = facts.data;
      this.knownData = text;
    }
    if (handshake && !this.saidHandshake) {
      this.saidHandshake = {
        auth: decode(handshake.auth ?? {}) as Record<string, unknown>,
        query: handshake.query,
        headers: handshake.headers,
        address: this.address,
        time: new Date().toString(),
        issued: Date.now(),
        url: '',
        xdomain: false,
        secure: false,
      };
    }
  }

  /** Takes over the rooms that roomcast lists, unless a handler is just changing them. */
  setRooms(rooms: readonly string[]): void {
    if (this.answers > 0) return;
    this.rooms.clear();
    for (const room of [this.id, ...rooms]) this.rooms.add(room);
  }

  /** The data as JSON. */
  dataText(): string {
    const text = typeof this.data === 'object' && this.data !== null && !Array.isArray(this.data) ? JSON.stringify(this.data) : undefined;
    if (text === undefined) throw new Error('client.data must be an object');
    return text;
  }

  get handshake(): RoomcastHandshake {
    if (!this.saidHandshake) {
      throw new RoomcastUnsupportedError('client.handshake', 'another process of the application has taken the connection. Set HANDLER_HANDSHAKE=true on roomcast, and every event brings it along');
    }
    return this.saidHandshake;
  }

  /** What of the HTTP request is known. */
  get request(): { headers: Record<string, string>; connection: { remoteAddress: string }; socket: { remoteAddress: string } } {
    const from = { remoteAddress: this.address };
    return { headers: this.handshake.headers, connection: from, socket: from };
  }

  get conn(): { id: string; transport: { name: string }; remoteAddress: string } {
    return { id: this.id, transport: { name: this.transport }, remoteAddress: this.address };
  }

  get disconnected(): boolean {
    return !this.connected;
  }

  get server(): RoomcastServer {
    return this.nsp.server;
  }

  /** Says who the client is, while it connects: its user, its permissions for roomcast's own events, until when. */
  identify(identity: Identity): void {
    const answering = underWay();
    if (answering?.request.type !== 'connect' || answering.socket !== this) {
      throw new RoomcastUnsupportedError('client.identify() later', 'call it in a middleware or in handleConnection(), before anything that takes long');
    }
    answering.identity = { ...answering.identity, ...identity };
    if (identity.userId !== undefined) this.userId = identity.userId;
    if (identity.clientName !== undefined) this.clientName = identity.clientName;
    if (identity.claims !== undefined) this.claims = identity.claims;
  }

  override emit(event: string, ...args: unknown[]): boolean {
    const callback = args.at(-1);
    if (typeof callback === 'function') {
      // As in Socket.IO, without timeout() there is no error to be told.
      this.emitWithAck(event, ...args.slice(0, -1)).then((answer) => callback(answer), () => {});
      return true;
    }
    const text = argumentsText(args);
    const name = eventName(event);
    if (!this.connected) return true;
    const target = { namespace: this.nsp.name, rooms: [], clients: [this.id], exceptRooms: [], exceptClients: [] };
    const data = args.length === 1 && isPlain(args[0]) ? text.slice(1, -1) : undefined;
    perform(this.outbox, { kind: 'emit', emission: { event: name, args: text, data, target } });
    return true;
  }

  send(...args: unknown[]): this {
    this.emit('message', ...args);
    return this;
  }

  write(...args: unknown[]): this {
    return this.send(...args);
  }

  async emitWithAck(event: string, ...args: unknown[]): Promise<unknown> {
    const [answer] = await this.nsp.to(this.id).emitWithAck(event, ...args);
    return answer;
  }

  /** Emits with an acknowledgement that has to come in time: `timeout(ms).emit(event, …args, (error, answer) => …)`. */
  timeout(milliseconds: number): { emit: (event: string, ...args: unknown[]) => boolean; emitWithAck: (event: string, ...args: unknown[]) => Promise<unknown> } {
    const only = this.nsp.to(this.id).timeout(milliseconds);
    const emitWithAck = async (event: string, ...args: unknown[]) => (await only.emitWithAck(event, ...args))[0];
    const emit = (event: string, ...args: unknown[]) => {
      const callback = args.at(-1);
      if (typeof callback !== 'function') return this.emit(event, ...args);
      emitWithAck(event, ...args.slice(0, -1)).then((answer) => callback(null, answer), (error: unknown) => callback(error));
      return true;
    };
    return { emit, emitWithAck };
  }

  join(rooms: string | string[]): void {
    const names = roomNames(rooms).filter((room) => !this.rooms.has(room));
    if (!names.length || !this.connected) return;
    for (const room of names) this.rooms.add(room);
    perform(this.outbox, { kind: 'join', socket: this, rooms: names });
  }

  leave(room: string): void {
    const [name] = roomNames(room);
    if (name === this.id || !this.rooms.delete(name) || !this.connected) return;
    perform(this.outbox, { kind: 'leave', socket: this, rooms: [name] });
  }

  to(rooms: string | string[]): RoomcastBroadcastOperator {
    return this.broadcast.to(rooms);
  }

  in(rooms: string | string[]): RoomcastBroadcastOperator {
    return this.to(rooms);
  }

  except(rooms: string | string[]): RoomcastBroadcastOperator {
    return this.broadcast.except(rooms);
  }

  /** Everyone but this client. */
  get broadcast(): RoomcastBroadcastOperator {
    return this.nsp.except(this.id);
  }

  get volatile(): this {
    return this;
  }

  compress(_compress: boolean): this {
    return this;
  }

  /** Disconnects the client from its namespace, when the handler that runs has ended. */
  disconnect(_close = false): this {
    if (this.connected) perform(this.outbox, { kind: 'disconnect', socket: this });
    return this;
  }

  /** Calls something for each event of the client, before its handlers. */
  use(middleware: PacketMiddleware): this {
    this.middlewares.push(middleware);
    return this;
  }

  onAny(listener: (...args: unknown[]) => void): this {
    this.anyListeners.push(listener);
    return this;
  }

  prependAny(listener: (...args: unknown[]) => void): this {
    this.anyListeners.unshift(listener);
    return this;
  }

  offAny(listener?: (...args: unknown[]) => void): this {
    const kept = listener ? this.anyListeners.filter((one) => one !== listener) : [];
    this.anyListeners.splice(0, this.anyListeners.length, ...kept);
    return this;
  }

  listenersAny(): ((...args: unknown[]) => void)[] {
    return [...this.anyListeners];
  }

  /** Adds a handler of a gateway. */
  handle(event: string, handler: BoundHandler): void {
    const handlers = this.handlers.get(event);
    if (handlers) handlers.push(handler);
    else this.handlers.set(event, [handler]);
  }

  /** Gives an event of the client to its handlers, and waits until they have ended. */
  async dispatch(event: string, args: unknown[], ack: Ack | undefined, failed: (error: unknown) => void): Promise<Dispatched> {
    const listeners = this.listeners(event);
    const handlers = this.handlers.get(event) ?? [];
    const isHandled = listeners.length + handlers.length + this.anyListeners.length > 0;
    if (!isHandled) return { isHandled, mayAcknowledge: false };
    const withAck = ack ? [...args, ack] : args;
    for (const middleware of this.middlewares) {
      await new Promise<void>((done, refuse) => middleware([event, ...withAck], (error) => (error ? refuse(new Refused(error)) : done())));
    }
    const call = (listener: (...args: unknown[]) => unknown, ...given: unknown[]) => {
      try {
        Promise.resolve(listener.apply(this, given)).catch(failed);
      } catch (error) {
        failed(error);
      }
    };
    for (const listener of this.anyListeners) call(listener, event, ...args);
    for (const listener of listeners) call(listener as () => unknown, ...withAck);
    const data = args.length > 1 ? args : args[0];
    const streams = await Promise.all(handlers.map((handler) => handler.run(data, ack)));
    const mayAcknowledge = listeners.length > 0 || handlers.some((handler) => handler.acknowledges) || streams.includes(true);
    return { isHandled, mayAcknowledge };
  }

  /** The client has gone. */
  end(reason: string, tellsGateways: boolean, failed: (error: unknown) => void): void {
    if (!this.connected) return;
    const call = (work: () => void) => {
      try {
        work();
      } catch (error) {
        failed(error);
      }
    };
    for (const listener of this.listeners('disconnecting')) call(() => listener.call(this, reason));
    this.connected = false;
    for (const listener of this.listeners('disconnect')) call(() => listener.call(this, reason));
    if (tellsGateways) for (const ending of this.endings) call(() => ending(reason));
    this.removeAllListeners();
    this.handlers.clear();
    this.endings.length = 0;
    this.anyListeners.length = 0;
  }
}

unsupported(RoomcastSocket.prototype, 'client', {
  client: 'the connection itself ends at roomcast; client.conn has its transport and its address',
  adapter: 'use "await server.in(room).fetchSockets()"',
  local: 'clients are connected to roomcast, and to no process of the application',
});
for (const method of ['onAnyOutgoing', 'prependAnyOutgoing', 'offAnyOutgoing'] as const) {
  Object.defineProperty(RoomcastSocket.prototype, method, {
    value(): never {
      throw new RoomcastUnsupportedError(`client.${method}()`, 'events reach clients from roomcast. Count them there (GET /metrics)');
    },
  });
}
