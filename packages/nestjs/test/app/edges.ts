// A gateway that does what is rare, forbidden or wrong.
import 'reflect-metadata';
import { Injectable, Module, Scope, UnauthorizedException } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ConnectedSocket, MessageBody, type OnGatewayConnection, type OnGatewayDisconnect, SubscribeMessage, WebSocketGateway, WebSocketServer, WsException } from '@nestjs/websockets';
import { RoomcastAdapter, type RoomcastOptions, type RoomcastServer, type RoomcastSocket } from '@roomcast/nestjs';

export const log: string[] = [];

@WebSocketGateway()
export class EdgesGateway implements OnGatewayConnection<RoomcastSocket>, OnGatewayDisconnect<RoomcastSocket> {
  @WebSocketServer() server: RoomcastServer;

  async handleConnection(client: RoomcastSocket): Promise<void> {
    const { how } = client.handshake.auth;
    log.push(`connected ${how}`);
    if (how === 'throws') throw new Error('a secret of the database');
    if (how === 'refuses') throw new WsException('not you');
    if (how === 'unauthorized') throw new UnauthorizedException('who are you?');
    if (how === 'identifies') client.identify({ userId: 'ann', clientName: 'Ann', claims: { plan: 'gold' } });
    if (how === 'hangs') {
      client.emit('soon', 1);
      await new Promise((done) => setTimeout(done, 600));
      client.join('late');
      client.emit('at-last', [...client.rooms].filter((room) => room !== client.id));
    }
    if (how === 'listens') client.on('plain', (value: unknown, ack?: (answer: unknown) => void) => setTimeout(() => ack?.({ value }), 20));
  }

  handleDisconnect(client: RoomcastSocket, reason?: string): void {
    log.push(`disconnected ${client.handshake.auth.how}: ${reason}`);
  }

  @SubscribeMessage('who')
  who(@ConnectedSocket() client: RoomcastSocket): unknown {
    return { userId: client.userId, clientName: client.clientName, claims: client.claims, sockets: this.server.sockets.sockets.size };
  }

  @SubscribeMessage('forbidden')
  forbidden(@ConnectedSocket() client: RoomcastSocket): string[] {
    const server = this.server as unknown as Record<string, never> & RoomcastServer;
    const socket = client as unknown as Record<string, never> & RoomcastSocket;
    const attempts: (() => unknown)[] = [
      () => server.engine,
      () => server.sockets.adapter,
      () => server.local,
      () => (server as unknown as { adapter: (x: unknown) => void }).adapter(1),
      () => server.serverSideEmit(),
      () => server.of(/^\/x/ as unknown as string),
      () => socket.client,
      () => (socket as unknown as { onAnyOutgoing: () => void }).onAnyOutgoing(),
      () => socket.timeout(60_000),
      () => socket.identify({ userId: 'x' }),
      () => socket.emit('disconnect'),
      () => socket.join('a\u0000b'),
    ];
    return attempts.map((attempt) => {
      try {
        return `nothing: ${String(attempt())}`;
      } catch (error) {
        return (error as Error).message;
      }
    });
  }

  @SubscribeMessage('too-much-data')
  tooMuchData(@ConnectedSocket() client: RoomcastSocket): number {
    client.data.much = 'x'.repeat(5000);
    return 1;
  }

  @SubscribeMessage('how-much-data')
  howMuchData(@ConnectedSocket() client: RoomcastSocket): number {
    return (client.data.much as string | undefined)?.length ?? 0;
  }

  @SubscribeMessage('large')
  large(@ConnectedSocket() client: RoomcastSocket): string {
    for (let n = 1; n <= 4; n++) client.emit('part', n, 'x'.repeat(400_000));
    return 'sent';
  }

  @SubscribeMessage('cycle')
  cycle(@ConnectedSocket() client: RoomcastSocket): string {
    const cycle: Record<string, unknown> = {};
    cycle.self = cycle;
    client.emit('cycle', cycle);
    return 'sent';
  }

  @SubscribeMessage('message')
  message(@MessageBody() body: unknown): unknown {
    return { mine: body };
  }

  @SubscribeMessage('both')
  both(@ConnectedSocket() client: RoomcastSocket): void {
    client.emit('one');
  }

  @SubscribeMessage('ask-me')
  async askMe(@ConnectedSocket() client: RoomcastSocket): Promise<unknown> {
    try {
      return await client.timeout(200).emitWithAck('question', 1);
    } catch (error) {
      return (error as Error).message;
    }
  }
}

@WebSocketGateway()
export class OtherGateway {
  @SubscribeMessage('both')
  both(@ConnectedSocket() client: RoomcastSocket): string {
    client.emit('two');
    return 'acknowledged';
  }

  @SubscribeMessage('__proto__')
  proto(@MessageBody() value: unknown): unknown {
    return { value };
  }
}

@Injectable()
class Numbers {
  private last = 0;

  next(): number {
    return ++this.last;
  }
}

/** A new one for each client. */
@Injectable({ scope: Scope.REQUEST })
class PerClient {
  readonly number: number;

  constructor(numbers: Numbers) {
    this.number = numbers.next();
  }
}

@WebSocketGateway({ namespace: 'scoped' })
export class ScopedGateway implements OnGatewayConnection<RoomcastSocket> {
  constructor(private readonly perClient: PerClient) {}

  async handleConnection(client: RoomcastSocket): Promise<void> {
    await Promise.resolve();
    client.emit('number', this.perClient.number);
  }

  @SubscribeMessage('number')
  number(): number {
    return this.perClient.number;
  }
}

@Module({ providers: [EdgesGateway, OtherGateway, ScopedGateway, Numbers, PerClient] })
class EdgesModule {}

/** Starts the application. */
export async function start(port: number, options: RoomcastOptions): Promise<{ server: RoomcastServer; close: () => Promise<void> }> {
  const app = await NestFactory.create(EdgesModule, { logger: { log() {}, warn: (message: unknown) => log.push(String(message)), error: (message: unknown) => log.push(String(message)) } });
  app.useWebSocketAdapter(new RoomcastAdapter(app, options));
  await app.listen(port, '127.0.0.1');
  return { server: app.get(EdgesGateway).server, close: () => app.close() };
}
