import { Ack, ConnectedSocket, MessageBody, SubscribeMessage, WebSocketGateway, WebSocketServer, type WsResponse } from '@nestjs/websockets';
import type { Server, Socket } from 'socket.io';

/** A chat: everybody, rooms, one person; names are kept with the client. */
@WebSocketGateway({ cors: { origin: '*' } })
export class ChatGateway {
  @WebSocketServer() server: Server;

  @SubscribeMessage('name')
  name(@MessageBody() name: string, @ConnectedSocket() client: Socket): { was: string | null } {
    const was = (client.data.name as string | undefined) ?? null;
    client.data.name = name;
    return { was };
  }

  @SubscribeMessage('enter')
  async enter(@MessageBody('room') room: string, @ConnectedSocket() client: Socket): Promise<string[]> {
    await client.join(room);
    client.to(room).emit('entered', { room, name: client.data.name });
    client.emit('topic', `Welcome to ${room}`);
    return [...client.rooms].filter((one) => one !== client.id);
  }

  @SubscribeMessage('say')
  say(client: Socket, { room, text }: { room: string; text: string }): number {
    this.server.to(room).emit('said', { from: client.data.name, text });
    return text.length;
  }

  @SubscribeMessage('shout')
  shout(@MessageBody() text: string, @ConnectedSocket() client: Socket): WsResponse<string> {
    client.broadcast.emit('shouted', text.toUpperCase(), { by: client.id });
    return { event: 'shouted-to-all', data: text };
  }

  @SubscribeMessage('whisper')
  whisper(@MessageBody() [to, text]: [string, string], @ConnectedSocket() client: Socket): void {
    this.server.to(to).emit('whispered', { from: client.id, text });
  }

  @SubscribeMessage('except')
  except(@MessageBody() { room, not }: { room: string; not: string }): void {
    this.server.to(room).except(not).emit('chosen', room);
  }

  @SubscribeMessage('several')
  several(@MessageBody() args: unknown[], @Ack() ack: (...args: unknown[]) => void): void {
    ack(null, args.length, args);
  }

  @SubscribeMessage('bytes')
  bytes(@MessageBody() { file }: { file: Buffer }, @ConnectedSocket() client: Socket): { size: number; twice: Buffer } {
    client.emit('bytes', Buffer.from([0, 255]), { isBuffer: Buffer.isBuffer(file) });
    return { size: file.length, twice: Buffer.concat([file, file]) };
  }

  @SubscribeMessage('odd')
  odd(@MessageBody() value: unknown): { value: unknown } {
    return { value };
  }

  @SubscribeMessage('leave')
  async leave(@MessageBody() room: string, @ConnectedSocket() client: Socket): Promise<boolean> {
    await client.leave(room);
    return client.rooms.has(room);
  }

  @SubscribeMessage('quit')
  quit(@ConnectedSocket() client: Socket): void {
    client.emit('bye', 1);
    client.disconnect(true);
  }

  @SubscribeMessage('poll')
  async poll(@MessageBody() room: string): Promise<unknown[]> {
    return this.server.in(room).timeout(2000).emitWithAck('vote?', { room });
  }
}
