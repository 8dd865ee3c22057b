// A NestJS gateway as the applications have it that roomcast replaces, with its validated controller.
// The decorators are applied by hand, so that nothing has to be compiled. Listens on 127.0.0.1 at PORT.
import 'reflect-metadata';
import { Body, Controller, Module, Post, ValidationPipe } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { IoAdapter } from '@nestjs/platform-socket.io';
import { ConnectedSocket, MessageBody, SubscribeMessage, WebSocketGateway, WebSocketServer } from '@nestjs/websockets';
import { IsBoolean, IsISO8601, IsNotEmpty, IsOptional, IsString, IsUUID } from 'class-validator';

function decorate(type, decorators) {
  const { class: ofClass = [], types = {}, parameters = {}, ...members } = decorators;
  for (const [key, list] of Object.entries(parameters)) {
    list.forEach((decorator, index) => decorator(type.prototype, key, index));
  }
  for (const [key, list] of Object.entries(types)) {
    Reflect.defineMetadata('design:paramtypes', list, type.prototype, key);
  }
  for (const [key, list] of Object.entries(members)) {
    const method = Object.getOwnPropertyDescriptor(type.prototype, key);
    list.forEach((decorator) => decorator(type.prototype, key, method));
  }
  ofClass.forEach((decorator) => decorator(type));
  return type;
}

class MessageDto {}
decorate(MessageDto, {
  id: [IsUUID('4')],
  clientId: [IsString(), IsNotEmpty()],
  clientName: [IsString(), IsNotEmpty()],
  roomName: [IsString(), IsNotEmpty()],
  messageType: [IsString(), IsNotEmpty()],
  message: [IsString(), IsNotEmpty()],
  timestamp: [IsISO8601()],
  replyToSender: [IsOptional(), IsBoolean()],
});

class RoomsGateway {
  handleConnection(socket) {
    socket.emit('connected', { message: 'Connected to WebSocket server', connectionId: socket.id, clientId: socket.id });
  }

  joinRoom({ roomName }, socket) {
    socket.join(roomName);
    const joined = { success: true, clientId: socket.id, roomName };
    socket.emit('room-joined', joined);
    socket.to(roomName).emit('user-joined', { socketId: socket.id, room: roomName });
    return joined;
  }

  message(message, socket) {
    const room = message.replyToSender === true ? this.server.to(message.roomName) : socket.to(message.roomName);
    room.emit('message-reply', message);
  }
}
decorate(RoomsGateway, {
  class: [WebSocketGateway()],
  server: [WebSocketServer()],
  joinRoom: [SubscribeMessage('join-room')],
  message: [SubscribeMessage('message')],
  parameters: {
    joinRoom: [MessageBody(), ConnectedSocket()],
    message: [MessageBody(), ConnectedSocket()],
  },
});

class MessagesController {
  constructor(gateway) {
    this.gateway = gateway;
  }

  broadcast(message) {
    this.gateway.server.to(message.roomName).emit('message-reply', message);
    return message;
  }
}
Reflect.defineMetadata('design:paramtypes', [RoomsGateway], MessagesController);
decorate(MessagesController, {
  class: [Controller('messages')],
  broadcast: [Post('broadcast')],
  parameters: { broadcast: [Body()] },
  types: { broadcast: [MessageDto] },
});

class AppModule {}
decorate(AppModule, { class: [Module({ providers: [RoomsGateway], controllers: [MessagesController] })] });

const app = await NestFactory.create(AppModule, { logger: ['error', 'warn'] });
app.useWebSocketAdapter(new IoAdapter(app));
app.useGlobalPipes(new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true }));
await app.listen(Number(process.env.PORT), '127.0.0.1');
