// A NestJS gateway with an event that does nothing: on Socket.IO, or behind roomcast if NEST_ADAPTER names its package.
import 'reflect-metadata';
import { cpSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { IoAdapter } from '@nestjs/platform-socket.io';
import { MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';

class NothingGateway {
  nothing() {
    return { success: true };
  }
}
MessageBody()(NothingGateway.prototype, 'nothing', 0);
SubscribeMessage('nothing')(NothingGateway.prototype, 'nothing', Object.getOwnPropertyDescriptor(NothingGateway.prototype, 'nothing'));
WebSocketGateway()(NothingGateway);

class AppModule {}
Module({ providers: [NothingGateway] })(AppModule);

const { NEST_ADAPTER, ROOMCAST_URL, HANDLER_SECRET, PORT } = process.env;
const app = await NestFactory.create(AppModule, { logger: ['error', 'warn'] });
if (NEST_ADAPTER) {
  // Copied to where it finds the NestJS of this application.
  cpSync(`${NEST_ADAPTER}/dist`, 'target/nestjs', { recursive: true });
  writeFileSync('target/nestjs/package.json', '{"type": "commonjs"}');
  const { RoomcastAdapter } = createRequire(import.meta.url)('../target/nestjs/index.js');
  app.useWebSocketAdapter(new RoomcastAdapter(app, { url: ROOMCAST_URL, apiKey: 'key', secret: HANDLER_SECRET, path: '/roomcast' }));
} else {
  app.useWebSocketAdapter(new IoAdapter(app));
}
await app.listen(Number(PORT), '127.0.0.1');
