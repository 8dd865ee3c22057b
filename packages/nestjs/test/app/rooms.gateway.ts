import { appendFile, readFile } from 'node:fs/promises';
import { Injectable, UsePipes, ValidationPipe } from '@nestjs/common';
import { ConnectedSocket, MessageBody, SubscribeMessage, WebSocketGateway, WebSocketServer, WsException } from '@nestjs/websockets';
import { IsInt, IsString, Length, Max, Min } from 'class-validator';
import type { Namespace, Socket } from 'socket.io';

class PostDto {
  @IsString() @Length(1, 20) room: string;
  @IsString() @Length(1, 100) text: string;
  @IsInt() @Min(1) @Max(5) stars: number;
}

/** The database: what was posted, in a file that all processes of the application share. */
@Injectable()
export class Posts {
  private readonly file = process.env.DATABASE ?? '';

  async add(post: PostDto): Promise<number> {
    await appendFile(this.file, `${JSON.stringify(post)}\n`);
    return (await this.of(post.room)).length;
  }

  async of(room: string): Promise<PostDto[]> {
    const text = await readFile(this.file, 'utf8').catch(() => '');
    const all = text.split('\n').filter(Boolean);
    return all.map((line) => JSON.parse(line) as PostDto).filter((post) => post.room === room);
  }
}

/** Rooms whose posts are kept in a database. */
@WebSocketGateway({ namespace: 'rooms' })
@UsePipes(new ValidationPipe({ exceptionFactory: (errors) => new WsException(errors.map((error) => error.property)) }))
export class RoomsGateway {
  @WebSocketServer() rooms: Namespace;

  constructor(private readonly posts: Posts) {}

  @SubscribeMessage('open')
  async open(@MessageBody() room: string, @ConnectedSocket() client: Socket): Promise<{ room: string; posts: PostDto[] }> {
    await client.join(room);
    return { room, posts: await this.posts.of(room) };
  }

  @SubscribeMessage('post')
  async post(@MessageBody() post: PostDto, @ConnectedSocket() client: Socket): Promise<{ count: number }> {
    if (!client.rooms.has(post.room)) throw new WsException(`you are not in ${post.room}`);
    const count = await this.posts.add(post);
    this.rooms.to(post.room).emit('posted', { ...post, count });
    return { count };
  }

  @SubscribeMessage('members')
  async members(@MessageBody() room: string): Promise<string[]> {
    const sockets = await this.rooms.in(room).fetchSockets();
    return sockets.map((socket) => socket.id).sort();
  }

  @SubscribeMessage('merge')
  merge(@MessageBody() [from, into]: [string, string]): void {
    this.rooms.in(from).socketsJoin(into);
    this.rooms.in(from).socketsLeave(from);
    this.rooms.to(into).emit('merged', { from, into });
  }

  @SubscribeMessage('close')
  close(@MessageBody() room: string): void {
    this.rooms.to(room).emit('closing', room);
    this.rooms.in(room).disconnectSockets();
  }
}
