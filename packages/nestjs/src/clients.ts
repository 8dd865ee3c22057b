import type { Logger } from '@nestjs/common';
import { Answering, type Reply } from './answering';
import { ROOMCAST_EVENTS } from './names';
import type { Settings } from './options';
import type { Outbox } from './outbox';
import { isToldToClients, Refused } from './refused';
import type { RoomcastRequest } from './requests';
import type { RoomcastServer } from './server';
import { RoomcastSocket } from './socket';
import { decode } from './values';

/** How often clients are looked for that have gone without a word. */
const SWEEP_MS = 600_000;
/** How long after a node has appeared: the clients of one that it replaces have gone, and nobody tells of them. */
const NEW_NODE_MS = 30_000;

/** How many clients of whose connection nobody has told make a warning, if none was told of. */
const STRANGERS = 20;

/** Answers roomcast's requests about clients. */
export class Clients {
  private readonly sweeper: NodeJS.Timeout;
  private arrivals = new Map<string, number>();
  private strangers = 0;
  private hasConnects = false;
  private readonly nodes = new Set<string>();

  constructor(
    private readonly server: RoomcastServer,
    private readonly outbox: Outbox,
    private readonly settings: Settings,
    private readonly logger: Logger,
  ) {
    outbox.onGone = (id) => this.forget(id);
    outbox.arrivedAt = (id) => this.arrivals.get(id) ?? 0;
    this.sweeper = setInterval(() => void this.sweep(SWEEP_MS), SWEEP_MS);
    this.sweeper.unref();
  }

  close(): void {
    clearInterval(this.sweeper);
  }

  /** Answers a request. `gone` is aborted when nobody waits for the answer any more. */
  answer(request: RoomcastRequest, gone: AbortSignal): Promise<Reply> {
    this.meet(request.node);
    switch (request.type) {
      case 'connect':
        return this.connect(request, gone);
      case 'event':
        return this.event(request, gone);
      case 'disconnect':
        return this.disconnect(request);
    }
  }

  private meet(node: string): void {
    if (this.nodes.has(node)) return;
    if (this.nodes.size > 0) setTimeout(() => void this.sweep(NEW_NODE_MS), NEW_NODE_MS).unref();
    this.nodes.add(node);
  }

  private async connect(request: RoomcastRequest, gone: AbortSignal): Promise<Reply> {
    this.hasConnects = true;
    const namespace = this.server.namespaces.get(request.client.namespace);
    if (!namespace) return refusal('Invalid namespace', 'not_found');
    const socket = new RoomcastSocket(namespace, this.outbox, request);
    const answering = new Answering(this.outbox, socket, request, this.settings);
    const greet = async () => {
      for (const middleware of namespace.middlewares) {
        await new Promise<void>((done, refuse) => void middleware(socket, (error) => (error ? refuse(new Refused(error)) : done())));
      }
      if (gone.aborted || !answering.isOpen) return;
      // A session that comes back.
      const before = namespace.sockets.get(socket.id);
      if (before) this.end(before, 'transport close', false);
      namespace.sockets.set(socket.id, socket);
      for (const gateway of namespace.gateways) gateway(socket);
      namespace.announce(socket);
      await Promise.all(answering.hooks);
    };
    try {
      await this.inTime(answering.run(greet), answering.answered, gone);
    } catch (error) {
      answering.abandon();
      this.end(socket, 'server namespace disconnect', true);
      return this.refused(error);
    }
    if (gone.aborted) {
      answering.abandon();
      this.end(socket, 'transport error', true);
      return { status: 204 };
    }
    if (!namespace.sockets.has(socket.id)) {
      // The middlewares have not let it in in time.
      answering.abandon();
      return refusal('the application did not answer in time', 'unavailable');
    }
    this.arrivals.set(socket.id, Date.now());
    setTimeout(() => this.arrivals.delete(socket.id), 5000).unref();
    return answering.reply();
  }

  private async event(request: RoomcastRequest, gone: AbortSignal): Promise<Reply> {
    const namespace = this.server.namespaces.get(request.client.namespace);
    if (!namespace) return refusal(`no gateway has the namespace ${request.client.namespace}`, 'unknown_event');
    const event = request.event ?? '';
    const known = namespace.sockets.get(request.client.clientId);
    known?.refresh(request.client, request.handshake);
    const socket = known ?? new RoomcastSocket(namespace, this.outbox, request);
    const answering = new Answering(this.outbox, socket, request, this.settings);
    if (!known) this.adopt(socket, answering);
    const ack = request.wantsAck ? (...args: unknown[]) => answering.acknowledge(args) : undefined;
    const args = decode(request.args ?? []) as unknown[];
    let mayAcknowledge = false;
    const handle = async () => {
      const dispatched = await socket.dispatch(event, args, ack, (error) => this.failed(event, error));
      ({ mayAcknowledge } = dispatched);
      return dispatched.isHandled;
    };
    try {
      const isHandled = await this.inTime(answering.run(handle), answering.answered, gone);
      if (isHandled === false) {
        answering.abandon();
        if (this.settings.roomcastEvents.has(event)) return { status: 204 };
        return refusal(`no gateway handles the event ${JSON.stringify(event.slice(0, 100))}`, 'unknown_event');
      }
      // It has not ended yet.
      if (isHandled === undefined) mayAcknowledge = true;
    } catch (error) {
      answering.abandon();
      return this.refused(error);
    }
    if (gone.aborted) {
      this.logger.warn(`roomcast did not wait for the answer to "${event}", so what it was to do does not happen: let answerWithin be less than HANDLER_TIMEOUT`);
      answering.abandon();
      return { status: 204 };
    }
    if (ack && !answering.isAcknowledged && mayAcknowledge) {
      if (!ROOMCAST_EVENTS.has(event)) return answering.defer();
      // With 202, roomcast would do by itself what the event is for.
      this.logger.error(`"${event}" is one of roomcast's own events: its acknowledgement cannot come later than the handler's end, or than ${this.settings.answerWithin} ms`);
    }
    return answering.reply();
  }

  private async disconnect(request: RoomcastRequest): Promise<Reply> {
    const namespace = this.server.namespaces.get(request.client.namespace);
    if (!namespace) return { status: 204 };
    const known = namespace.sockets.get(request.client.clientId);
    known?.refresh(request.client, request.handshake);
    const socket = known ?? new RoomcastSocket(namespace, this.outbox, request);
    if (!known) this.adopt(socket, new Answering(this.outbox, socket, request, this.settings));
    this.end(socket, request.reason ?? 'transport close', true);
    return { status: 204 };
  }

  /** A client whose connection another process has taken: its handlers are bound, and nothing else happens. */
  private adopt(socket: RoomcastSocket, answering: Answering): void {
    socket.nsp.sockets.set(socket.id, socket);
    answering.isMuted = true;
    answering.run(() => {
      for (const gateway of socket.nsp.gateways) gateway(socket);
      socket.nsp.announce(socket);
    });
    answering.isMuted = false;
    if (!this.hasConnects && ++this.strangers === STRANGERS) {
      this.logger.warn('no connection of a client has been told of yet, so handleConnection() is not called: set HANDLER_CONNECT=true on roomcast');
    }
  }

  /** Waits for work until it has to be answered; undefined if it goes on. */
  private inTime<T>(work: Promise<T>, answered: Promise<void>, gone: AbortSignal): Promise<T | undefined> {
    return new Promise((done, failed) => {
      const goesOn = () => done(undefined);
      const timer = setTimeout(goesOn, this.settings.answerWithin);
      gone.addEventListener('abort', goesOn, { once: true });
      void answered.then(goesOn);
      work.then(done, failed).finally(() => {
        clearTimeout(timer);
        gone.removeEventListener('abort', goesOn);
      });
    });
  }

  private end(socket: RoomcastSocket, reason: string, tellsGateways: boolean): void {
    socket.nsp.sockets.delete(socket.id);
    socket.end(reason, tellsGateways, (error) => this.failed('disconnect', error));
  }

  /** A client has gone, and another process has been told so, or none. */
  private forget(id: string): void {
    for (const namespace of this.server.namespaces.values()) {
      const socket = namespace.sockets.get(id);
      if (socket) this.end(socket, 'transport close', false);
    }
  }

  /** Forgets clients that have gone without a word: that they have is told at most once, and to one process. */
  private async sweep(silence: number): Promise<void> {
    try {
      for (const namespace of this.server.namespaces.values()) {
        const before = Date.now() - silence;
        const silent = [...namespace.sockets.values()].filter((socket) => socket.seenAt < before);
        const connected = silent.length ? await this.outbox.connectedIds(namespace.name) : undefined;
        if (!connected) continue;
        for (const socket of silent) if (!connected.has(socket.id) && socket.seenAt < before) this.end(socket, 'transport close', false);
      }
    } catch (error) {
      this.logger.warn(`clients that have gone could not be looked for: ${String(error)}`);
    }
  }

  private refused(error: unknown): Reply {
    const { message, data } = (error ?? {}) as { message?: unknown; data?: unknown };
    if (!isToldToClients(error)) this.logger.error(error);
    const text = isToldToClients(error) && typeof message === 'string' && message ? message : 'Internal server error';
    const details = typeof data === 'object' && data !== null ? (data as Record<string, unknown>) : undefined;
    return refusal(text, typeof details?.code === 'string' ? details.code.slice(0, 100) || undefined : undefined, details);
  }

  private failed(event: string, error: unknown): void {
    this.logger.error(error, `a handler of "${event}" has failed`);
  }
}

function refusal(message: string, code?: string, data?: Record<string, unknown>): Reply {
  return { status: 200, body: JSON.stringify({ error: { message, code, data } }) };
}
