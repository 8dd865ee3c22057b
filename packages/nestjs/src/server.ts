import { EventEmitter } from 'node:events';
import { RoomcastBroadcastOperator } from './operator';
import type { Outbox } from './outbox';
import type { RoomcastSocket } from './socket';
import { RoomcastUnsupportedError, unsupported } from './unsupported';
import { decode } from './values';

/** What is asked before a client is let in. An error keeps it out. */
export type Middleware = (socket: RoomcastSocket, next: (error?: Error) => void) => void;

const COUNTS = 'use "await server.in(room).fetchSockets()", or roomcast\'s GET /rooms and GET /stats';
const OWN_SERVER = 'roomcast is the server: configure it there';

/** What a namespace and the server can do to clients. */
abstract class Emitting extends EventEmitter {
  /** The operator of all clients. */
  protected abstract all(): RoomcastBroadcastOperator;
  declare readonly local: never;

  to(rooms: string | string[]): RoomcastBroadcastOperator {
    return this.all().to(rooms);
  }

  in(rooms: string | string[]): RoomcastBroadcastOperator {
    return this.all().to(rooms);
  }

  except(rooms: string | string[]): RoomcastBroadcastOperator {
    return this.all().except(rooms);
  }

  get volatile(): RoomcastBroadcastOperator {
    return this.all();
  }

  compress(_compress: boolean): RoomcastBroadcastOperator {
    return this.all();
  }

  timeout(milliseconds: number): RoomcastBroadcastOperator {
    return this.all().timeout(milliseconds);
  }

  override emit(event: string, ...args: unknown[]): boolean {
    return this.all().emit(event, ...args);
  }

  send(...args: unknown[]): this {
    this.emit('message', ...args);
    return this;
  }

  write(...args: unknown[]): this {
    return this.send(...args);
  }

  emitWithAck(event: string, ...args: unknown[]): Promise<unknown[]> {
    return this.all().emitWithAck(event, ...args);
  }

  fetchSockets(): ReturnType<RoomcastBroadcastOperator['fetchSockets']> {
    return this.all().fetchSockets();
  }

  allSockets(): Promise<Set<string>> {
    return this.all().allSockets();
  }

  socketsJoin(rooms: string | string[]): void {
    this.all().socketsJoin(rooms);
  }

  socketsLeave(rooms: string | string[]): void {
    this.all().socketsLeave(rooms);
  }

  disconnectSockets(close = false): void {
    this.all().disconnectSockets(close);
  }

  serverSideEmit(): never {
    throw new RoomcastUnsupportedError('serverSideEmit()', 'let the processes of the application talk by Redis or a queue of their own');
  }

  serverSideEmitWithAck(): never {
    return this.serverSideEmit();
  }
}

unsupported(Emitting.prototype, 'the server', {
  local: 'clients are connected to roomcast, and to no process of the application',
});

/** A namespace. */
export class RoomcastNamespace extends Emitting {
  /** The clients that this process knows. Others may be connected: `fetchSockets()` finds all. */
  readonly sockets = new Map<string, RoomcastSocket>();
  /** What gateways do when a client connects. */
  readonly gateways: ((socket: RoomcastSocket) => void)[] = [];
  readonly middlewares: Middleware[] = [];
  declare readonly adapter: never;

  constructor(
    readonly server: RoomcastServer,
    readonly name: string,
    private readonly outbox: Outbox,
  ) {
    super();
    this.setMaxListeners(0);
  }

  use(middleware: Middleware): this {
    this.middlewares.push(middleware);
    return this;
  }

  decode(value: unknown): unknown {
    return decode(value);
  }

  /** Calls who listens for `connection`. */
  announce(socket: RoomcastSocket): void {
    for (const event of ['connect', 'connection']) for (const listener of this.listeners(event)) listener.call(this, socket);
  }

  protected all(): RoomcastBroadcastOperator {
    return new RoomcastBroadcastOperator(this, this.outbox);
  }
}

unsupported(RoomcastNamespace.prototype, 'the namespace', { adapter: COUNTS });

/** The server, as gateways get it by @WebSocketServer(). What it does concerns the namespace `/`. */
export class RoomcastServer extends Emitting {
  readonly namespaces = new Map<string, RoomcastNamespace>();
  declare readonly engine: never;
  declare readonly httpServer: never;

  constructor(private readonly outbox: Outbox) {
    super();
    this.of('/');
  }

  /** The namespace of this name. */
  of(name: string): RoomcastNamespace {
    if (typeof name !== 'string') {
      throw new RoomcastUnsupportedError('a namespace by a regular expression or a function', 'name each namespace, here and in WEBSOCKET_NAMESPACE of roomcast');
    }
    const path = name.startsWith('/') ? name : `/${name}`;
    let namespace = this.namespaces.get(path);
    if (!namespace) this.namespaces.set(path, (namespace = new RoomcastNamespace(this, path, this.outbox)));
    return namespace;
  }

  /** The namespace `/`. */
  get sockets(): RoomcastNamespace {
    return this.of('/');
  }

  use(middleware: Middleware): this {
    this.sockets.use(middleware);
    return this;
  }

  override on(event: string, listener: (...args: never[]) => void): this {
    this.sockets.on(event, listener as (...args: unknown[]) => void);
    return this;
  }

  override once(event: string, listener: (...args: never[]) => void): this {
    this.sockets.once(event, listener as (...args: unknown[]) => void);
    return this;
  }

  override off(event: string, listener: (...args: never[]) => void): this {
    this.sockets.off(event, listener as (...args: unknown[]) => void);
    return this;
  }

  /** Nothing of roomcast ends with the application. */
  close(done?: () => void): Promise<void> {
    done?.();
    return Promise.resolve();
  }

  protected all(): RoomcastBroadcastOperator {
    return this.sockets.to([]);
  }
}

unsupported(RoomcastServer.prototype, 'the server', { engine: COUNTS, httpServer: OWN_SERVER });
for (const method of ['adapter', 'attach', 'listen', 'bind', 'path', 'parser'] as const) {
  Object.defineProperty(RoomcastServer.prototype, method, {
    value(): never {
      throw new RoomcastUnsupportedError(`server.${method}()`, OWN_SERVER);
    },
  });
}
