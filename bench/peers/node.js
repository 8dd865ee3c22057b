// A Socket.IO server as people write it with Node.js. Listens on 127.0.0.1 at PORT.
import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { serve } from './rooms.js';

const http = createServer((request, response) => {
  if (request.method !== 'POST' || request.url !== '/messages/broadcast') {
    response.writeHead(404).end();
    return;
  }
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const message = JSON.parse(Buffer.concat(parts).toString());
    io.to(message.roomName).emit('message-reply', message);
    const body = JSON.stringify(message);
    response
      .writeHead(201, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) })
      .end(body);
  });
});
const io = new Server(http);
serve(io);
http.listen(Number(process.env.PORT), '127.0.0.1');
