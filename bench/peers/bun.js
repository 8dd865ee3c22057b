// The same server on Bun, with the engine that Socket.IO has for it. Listens on 127.0.0.1 at PORT.
import { Server as Engine } from '@socket.io/bun-engine';
import { Server } from 'socket.io';
import { serve } from './rooms.js';

const io = new Server();
const engine = new Engine({ path: '/socket.io/' });
io.bind(engine);
serve(io);

const { websocket } = engine.handler();
Bun.serve({
  port: Number(process.env.PORT),
  hostname: '127.0.0.1',
  idleTimeout: 30, // longer than the engine's ping interval
  websocket,
  async fetch(request, server) {
    const { pathname } = new URL(request.url);
    if (pathname === '/socket.io/') return engine.handleRequest(request, server);
    if (pathname !== '/messages/broadcast') return new Response(null, { status: 404 });
    const message = await request.json();
    io.to(message.roomName).emit('message-reply', message);
    return Response.json(message, { status: 201 });
  },
});
