import { perform, underWay } from './answering';
import type { Emission, Target } from './effects';
import { eventName, isClientId, roomNames } from './names';
import type { ListedConnection, Outbox } from './outbox';
import type { RoomcastNamespace } from './server';
import type { RoomcastSocket } from './socket';
import { RoomcastUnsupportedError, unsupported } from './unsupported';
import { argumentsText } from './values';

/** How long clients may take to acknowledge, in milliseconds. */
const ACK_MS = { least: 100, most: 30_000 };

/** A client that is connected, but that this process knows from roomcast's lists only. */
export class RoomcastRemoteSocket {
  readonly id: string;
  readonly rooms: Set<string>;
  readonly userId: string | null;
  readonly clientName: string;
  declare readonly data: never;
  declare readonly handshake: never;

  constructor(
    private readonly namespace: RoomcastNamespace,
    { id, rooms, userId, clientName }: ListedConnection,
  ) {
    this.id = id;
    this.rooms = new Set([id, ...rooms]);
    this.userId = userId;
    this.clientName = clientName;
  }

  emit(event: string, ...args: unknown[]): boolean {
    return this.namespace.to(this.id).emit(event, ...args);
  }

  join(rooms: string | string[]): void {
    this.namespace.in(this.id).socketsJoin(rooms);
  }

  leave(room: string): void {
    this.namespace.in(this.id).socketsLeave(room);
  }

  disconnect(_close = false): this {
    this.namespace.in(this.id).disconnectSockets();
    return this;
  }
}

const ELSEWHERE = 'another process of the application has it. Keep what several processes need in a store of your own';
unsupported(RoomcastRemoteSocket.prototype, 'the remote socket', { data: ELSEWHERE, handshake: ELSEWHERE });

/** Chooses clients, for an event or a change of their rooms. Each method returns a new one, as in Socket.IO. */
export class RoomcastBroadcastOperator {
  declare readonly local: never;

  constructor(
    private readonly namespace: RoomcastNamespace,
    private readonly outbox: Outbox,
    private readonly chosen: ReadonlySet<string> = new Set(),
    private readonly excepted: ReadonlySet<string> = new Set(),
    private readonly timeoutMs?: number,
  ) {}

  to(rooms: string | string[]): RoomcastBroadcastOperator {
    return this.with({ chosen: new Set([...this.chosen, ...roomNames(rooms)]) });
  }

  in(rooms: string | string[]): RoomcastBroadcastOperator {
    return this.to(rooms);
  }

  except(rooms: string | string[]): RoomcastBroadcastOperator {
    return this.with({ excepted: new Set([...this.excepted, ...roomNames(rooms)]) });
  }

  /** Nothing but `history` stores anything, so this changes nothing without it. */
  get volatile(): RoomcastBroadcastOperator {
    return this;
  }

  /** roomcast decides about compression. */
  compress(_compress: boolean): RoomcastBroadcastOperator {
    return this;
  }

  timeout(milliseconds: number): RoomcastBroadcastOperator {
    if (!(milliseconds > 0 && milliseconds <= ACK_MS.most)) {
      throw new RoomcastUnsupportedError(`a timeout of ${milliseconds} ms`, `it can be up to ${ACK_MS.most} ms`);
    }
    return this.with({ timeoutMs: Math.max(Math.ceil(milliseconds), ACK_MS.least) });
  }

  emit(event: string, ...args: unknown[]): boolean {
    const callback = args.at(-1);
    if (typeof callback === 'function') {
      this.ask(event, args.slice(0, -1)).then(
        ({ responses, isComplete }) => callback(isComplete ? null : new Error('operation has timed out'), responses),
        (error: unknown) => callback(error, []),
      );
      return true;
    }
    const name = eventName(event);
    const text = argumentsText(args);
    for (const [target, isStored] of this.targets()) {
      const emission: Emission = { event: name, args: text, target };
      if (isStored && args.length === 1 && isPlain(args[0])) emission.data = text.slice(1, -1);
      perform(this.outbox, { kind: 'emit', emission });
    }
    return true;
  }

  send(...args: unknown[]): this {
    this.emit('message', ...args);
    return this;
  }

  write(...args: unknown[]): this {
    return this.send(...args);
  }

  /** The first arguments of the clients' acknowledgements. */
  async emitWithAck(event: string, ...args: unknown[]): Promise<unknown[]> {
    const { responses, isComplete } = await this.ask(event, args);
    if (!isComplete) throw Object.assign(new Error('operation has timed out'), { responses });
    return responses;
  }

  async fetchSockets(): Promise<(RoomcastSocket | RoomcastRemoteSocket)[]> {
    // What was done before is to be seen.
    await this.outbox.settled();
    const { name, sockets } = this.namespace;
    const found = new Map<string, ListedConnection>();
    const names = [...this.chosen];
    const lists = names.length ? names.map((room) => this.outbox.connections(name, room)) : [this.outbox.connections(name)];
    for (const connection of (await Promise.all(lists)).flat()) found.set(connection.id, connection);
    for (const id of names.filter((id) => isClientId(id) && !found.has(id))) {
      const connection = await this.outbox.connection(id, name);
      if (connection) found.set(id, connection);
    }
    // What the handler that runs has done with its own client is not told yet.
    const own = underWay()?.socket;
    const result = new Map<string, RoomcastSocket | RoomcastRemoteSocket>();
    for (const connection of found.values()) {
      const known = sockets.get(connection.id);
      known?.setRooms(connection.rooms);
      const socket = known ?? new RoomcastRemoteSocket(this.namespace, connection);
      if (socket !== own) result.set(connection.id, socket);
    }
    if (own?.nsp === this.namespace && own.connected && (!names.length || names.some((room) => own.rooms.has(room)))) result.set(own.id, own);
    return [...result.values()].filter((socket) => ![...this.excepted].some((room) => socket.rooms.has(room)));
  }

  allSockets(): Promise<Set<string>> {
    return this.fetchSockets().then((sockets) => new Set(sockets.map((socket) => socket.id)));
  }

  socketsJoin(rooms: string | string[]): void {
    const names = roomNames(rooms);
    this.each((socket) => socket.join(names), (id) => this.outbox.join(id, names));
  }

  socketsLeave(rooms: string | string[]): void {
    const names = roomNames(rooms);
    this.each((socket) => names.forEach((room) => socket.leave(room)), (id) => this.outbox.leave(id, names));
  }

  disconnectSockets(_close = false): void {
    this.each((socket) => socket.disconnect(), (id) => this.outbox.disconnect(id));
  }

  /** For each of the clients: one that this process knows by name at once, the others as roomcast lists them then. */
  private each(own: (socket: RoomcastSocket) => void, other: (id: string) => Promise<void>): void {
    const [only, ...more] = this.chosen;
    const socket = more.length || this.excepted.size ? undefined : this.namespace.sockets.get(only);
    if (socket) return own(socket);
    const run = async () => {
      const names = [...this.chosen];
      const { name } = this.namespace;
      const rooms = names.length ? names : [undefined];
      const lists = await Promise.all(rooms.map((room) => this.outbox.connections(name, room)));
      const found = new Map(lists.flat().map((connection) => [connection.id, connection]));
      const ids = names.filter((id) => isClientId(id) && !found.has(id));
      for (const { id, rooms } of found.values()) {
        if (!this.excepted.has(id) && !rooms.some((room) => this.excepted.has(room))) ids.push(id);
      }
      for (const id of ids) await other(id);
    };
    perform(this.outbox, { kind: 'call', run });
  }

  private async ask(event: string, args: unknown[]): Promise<{ responses: unknown[]; isComplete: boolean }> {
    const emission: Emission = { event: eventName(event), args: argumentsText(args), target: this.target([...this.chosen], [...this.chosen].filter(isClientId)) };
    const answering = underWay();
    // A client is not there yet until the answer that lets it in has been given.
    if (answering?.request.type === 'connect') await answering.answered;
    else await this.outbox.settled();
    const { responses, timedOut } = await this.outbox.ask(emission, this.timeoutMs ?? ACK_MS.most);
    return { responses: responses.map(({ args: [first] }) => this.namespace.decode(first)), isComplete: timedOut.length === 0 };
  }

  /** What has to be sent, and whether it may be stored. A name that may be a client's id or a room's is taken for both. */
  private *targets(): Generator<[Target, boolean]> {
    const names = [...this.chosen];
    if (!names.length) return yield [this.target([], []), false];
    const clients = names.filter(isClientId);
    const rooms = names.filter((name) => !isClientId(name));
    const perhaps = clients.filter((name) => !this.namespace.sockets.has(name));
    if (rooms.length) yield [this.target(rooms, []), true];
    if (perhaps.length) yield [this.target(perhaps, [], rooms), false];
    // A client that is in one of the rooms has it already.
    if (clients.length) yield [this.target([], clients, rooms), false];
  }

  private target(rooms: string[], clients: string[], moreExcepted: string[] = []): Target {
    const exceptRooms = [...this.excepted, ...moreExcepted];
    return { namespace: this.namespace.name, rooms, clients, exceptRooms, exceptClients: [...this.excepted].filter(isClientId) };
  }

  private with(change: { chosen?: ReadonlySet<string>; excepted?: ReadonlySet<string>; timeoutMs?: number }): RoomcastBroadcastOperator {
    const { chosen = this.chosen, excepted = this.excepted, timeoutMs = this.timeoutMs } = change;
    return new RoomcastBroadcastOperator(this.namespace, this.outbox, chosen, excepted, timeoutMs);
  }
}

unsupported(RoomcastBroadcastOperator.prototype, 'the operator', { local: 'clients are connected to roomcast, and to no process of the application' });

/** Whether a value is an object that may be a message. */
export function isPlain(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !Buffer.isBuffer(value) && !ArrayBuffer.isView(value) && !(value instanceof ArrayBuffer) && !('toJSON' in value);
}
