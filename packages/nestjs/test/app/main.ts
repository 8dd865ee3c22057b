// An application with five gateways, on Node's own Socket.IO server (PLATFORM=socket.io) or behind roomcast.
import 'reflect-metadata';
import { Body, Controller, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { JwtModule, JwtService } from '@nestjs/jwt';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { IoAdapter } from '@nestjs/platform-socket.io';
import { RoomcastAdapter } from '@roomcast/nestjs';
import { ChatGateway } from './chat.gateway';
import { GuardedGateway } from './guarded.gateway';
import { PresenceGateway } from './presence.gateway';
import { Posts, RoomsGateway } from './rooms.gateway';
import { StreamsGateway } from './streams.gateway';

@Controller()
class ApiController {
  constructor(
    private readonly chat: ChatGateway,
    private readonly jwt: JwtService,
  ) {}

  @Post('login')
  login(@Body() { sub, roles }: { sub: string; roles: string[] }): { token: string } {
    return { token: this.jwt.sign({ sub, roles }) };
  }

  @Post('announce')
  announce(@Body() body: { room?: string }): { announced: boolean } {
    for (let n = 1; n <= 20; n++) (body.room ? this.chat.server.to(body.room) : this.chat.server).emit('announced', n);
    return { announced: true };
  }
}

@Module({
  imports: [JwtModule.register({ secret: 'a secret of the tests, long enough', signOptions: { expiresIn: '1h' } })],
  controllers: [ApiController],
  providers: [ChatGateway, RoomsGateway, PresenceGateway, GuardedGateway, StreamsGateway, Posts],
})
class AppModule {}

async function main(): Promise<void> {
  const { PLATFORM, HTTP, ROOMCAST_URL = '', ROOMCAST_SECRET = '', ANSWER_WITHIN } = process.env;
  const logger = ['error', 'warn', 'log'] as ('error' | 'warn' | 'log')[];
  const app = HTTP === 'fastify' ? await NestFactory.create(AppModule, new FastifyAdapter(), { logger }) : await NestFactory.create(AppModule, { logger });
  if (PLATFORM === 'socket.io') app.useWebSocketAdapter(new IoAdapter(app));
  else {
    const answerWithin = ANSWER_WITHIN ? Number(ANSWER_WITHIN) : undefined;
    app.useWebSocketAdapter(new RoomcastAdapter(app, { url: ROOMCAST_URL, apiKey: 'the-key', secret: ROOMCAST_SECRET, path: '/roomcast', answerWithin }));
  }
  app.enableShutdownHooks();
  await app.listen(Number(process.env.PORT), '127.0.0.1');
  console.log('listening');
}

void main();
