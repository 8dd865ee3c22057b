import { setTimeout as pause } from 'node:timers/promises';
import { type OnGatewayConnection, type OnGatewayDisconnect, type OnGatewayInit, SubscribeMessage, WebSocketGateway, WebSocketServer } from '@nestjs/websockets';
import type { Namespace, Socket } from 'socket.io';

/** Who is here. Each user is in a room of its own. */
@WebSocketGateway({ namespace: '/presence' })
export class PresenceGateway implements OnGatewayInit<Namespace>, OnGatewayConnection<Socket>, OnGatewayDisconnect<Socket> {
  @WebSocketServer() server: Namespace;

  afterInit(server: Namespace): void {
    server.use((client, next) => {
      const { name } = client.handshake.auth as { name?: unknown };
      if (typeof name === 'string') return next();
      next(Object.assign(new Error('tell your name'), { data: { code: 'no_name', field: 'name' } }));
    });
  }

  async handleConnection(client: Socket): Promise<void> {
    const name = client.handshake.auth.name as string;
    client.data.name = name;
    // A look into a database.
    await pause(20);
    if (name === 'banned') {
      client.emit('sorry', name);
      client.disconnect();
      return;
    }
    await client.join([`user:${name}`, 'everybody']);
    client.emit('welcome', { name, names: await this.names() });
    client.to('everybody').emit('online', name);
  }

  async handleDisconnect(client: Socket): Promise<void> {
    await pause(1);
    this.server.emit('offline', client.data.name);
  }

  @SubscribeMessage('who')
  async names(): Promise<string[]> {
    const sockets = await this.server.in('everybody').fetchSockets();
    const rooms = sockets.flatMap((socket) => [...socket.rooms]).filter((room) => room.startsWith('user:'));
    return [...new Set(rooms)].map((room) => room.slice('user:'.length)).sort();
  }

  @SubscribeMessage('nudge')
  nudge(client: Socket, name: string): void {
    this.server.to(`user:${name}`).emit('nudged', client.data.name);
  }
}
