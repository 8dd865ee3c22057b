import { type INestApplication, Logger } from '@nestjs/common';
import { ModulesContainer } from '@nestjs/core';
import { AbstractWsAdapter } from '@nestjs/websockets';
import { isObservable, type Observable } from 'rxjs';
import { Clients } from './clients';
import { Endpoint } from './endpoint';
import { wrapConnectionHook, wrapDisconnectHook } from './hooks';
import { type RoomcastOptions, settings } from './options';
import { Outbox } from './outbox';
import { type RoomcastNamespace, RoomcastServer } from './server';
import type { Ack, RoomcastSocket } from './socket';
import { RoomcastUnsupportedError } from './unsupported';

/** What NestJS sets on gateways (GATEWAY_METADATA). */
const GATEWAY = 'websockets:is_gateway';

/** How long the application's end waits for what is still to be sent, in milliseconds. */
const DISPOSE_MS = 10_000;

/** How long a handler that returns an Observable may be silent until it counts as a stream, in milliseconds. */
const STREAM_MS = 100;

/** A handler of a gateway, as NestJS describes it. */
interface MessageHandler {
  message: unknown;
  callback: (...args: unknown[]) => unknown;
  isAckHandledManually?: boolean;
}

type Options = { namespace?: unknown; server?: RoomcastServer } | undefined;

/**
 * Lets gateways that were written for `@nestjs/platform-socket.io` run behind roomcast:
 * `app.useWebSocketAdapter(new RoomcastAdapter(app, {url, apiKey, secret, path}))`.
 */
export class RoomcastAdapter extends AbstractWsAdapter {
  private readonly logger = new Logger(RoomcastAdapter.name);
  private readonly server: RoomcastServer;
  private readonly outbox: Outbox;
  private readonly clients: Clients;
  private hasGateways = false;

  constructor(
    private readonly app: INestApplication,
    options: RoomcastOptions,
  ) {
    super(app);
    const checked = settings(options);
    this.outbox = new Outbox(checked, this.logger);
    this.server = new RoomcastServer(this.outbox);
    this.clients = new Clients(this.server, this.outbox, checked, this.logger);
    const endpoint = new Endpoint(checked, this.logger, (request, gone) => this.clients.answer(request, gone));
    endpoint.attach(app.getHttpServer());
  }

  create(port: number, options?: Options): RoomcastServer | RoomcastNamespace {
    if (port !== 0) this.logger.warn(`the port ${port} of a gateway does nothing: clients connect to roomcast`);
    this.wrapGateways();
    return options?.namespace === undefined || options.namespace === '' ? this.server : this.server.of(options.namespace as string);
  }

  override bindClientConnect(server: RoomcastServer | RoomcastNamespace, callback: (socket: RoomcastSocket) => void): void {
    const namespace = server instanceof RoomcastServer ? server.sockets : server;
    namespace.gateways.push(callback);
  }

  override bindClientDisconnect(client: RoomcastSocket, callback: (reason: string) => void): void {
    client.endings.push(callback);
  }

  bindMessageHandlers(client: RoomcastSocket, handlers: MessageHandler[], transform: (data: unknown) => Observable<unknown>): void {
    for (const handler of handlers) {
      if (typeof handler.message !== 'string') {
        throw new RoomcastUnsupportedError('@SubscribeMessage() with a pattern that is no string', 'subscribe to an event by its name');
      }
      client.handle(handler.message, {
        acknowledges: handler.isAckHandledManually ?? false,
        run: (data, ack) => this.run(client, handler, transform, data, ack),
      });
    }
  }

  override async close(): Promise<void> {}

  override async dispose(): Promise<void> {
    this.clients.close();
    await this.outbox.settledWithin(DISPOSE_MS);
    await this.outbox.close();
  }

  /** Runs a handler, and waits for its end; for that of a stream only until it is known to be one. */
  private async run(client: RoomcastSocket, handler: MessageHandler, transform: (data: unknown) => Observable<unknown>, data: unknown, ack: Ack | undefined): Promise<boolean> {
    const deliver = (response: unknown) => {
      if (response === undefined || response === null) return;
      const { event, data: content } = response as { event?: string; data?: unknown };
      if (event) client.emit(event, content);
      else if (!handler.isAckHandledManually) ack?.(response);
    };
    try {
      const result = await handler.callback(data, ack);
      if (isObservable(result)) return await this.follow(client, transform(Promise.resolve(result)), deliver);
      deliver(result);
    } catch (error) {
      // A filter that throws: as with Socket.IO, the client hears nothing.
      this.logger.error(error);
    }
    return false;
  }

  private follow(client: RoomcastSocket, values: Observable<unknown>, deliver: (response: unknown) => void): Promise<boolean> {
    return new Promise((done) => {
      const timer = setTimeout(() => done(true), STREAM_MS);
      const end = () => {
        clearTimeout(timer);
        client.off('disconnect', stop);
        done(false);
      };
      const subscription = values.subscribe({
        next: (value) => {
          try {
            deliver(value);
          } catch (error) {
            this.logger.error(error);
          }
          // One that goes on behind its first value is a stream.
          setImmediate(() => done(false));
        },
        error: (error: unknown) => {
          this.logger.error(error);
          end();
        },
        complete: end,
      });
      const stop = () => {
        subscription.unsubscribe();
        end();
      };
      if (!subscription.closed) client.once('disconnect', stop);
    });
  }

  /** Before the first gateway is bound, its hooks are wrapped, and those of all others. */
  private wrapGateways(): void {
    if (this.hasGateways) return;
    this.hasGateways = true;
    for (const module of this.app.get(ModulesContainer).values()) {
      for (const { metatype, instance } of module.providers.values()) {
        if (typeof metatype !== 'function' || !Reflect.hasMetadata(GATEWAY, metatype)) continue;
        const own = instance as object | undefined;
        wrapConnectionHook(metatype.prototype as object);
        wrapDisconnectHook(metatype.prototype as object);
        if (own && Object.hasOwn(own, 'handleConnection')) wrapConnectionHook(own);
        if (own && Object.hasOwn(own, 'handleDisconnect')) wrapDisconnectHook(own);
      }
    }
  }
}
