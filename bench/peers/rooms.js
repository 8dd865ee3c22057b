// The rooms of roomcast's contract on a Socket.IO server: joining, and messages to a room.
export function serve(io) {
  io.on('connection', (socket) => {
    socket.emit('connected', { message: 'Connected to WebSocket server', connectionId: socket.id, clientId: socket.id });
    socket.on('join-room', ({ roomName }, ack) => {
      socket.join(roomName);
      const joined = { success: true, clientId: socket.id, roomName };
      socket.emit('room-joined', joined);
      socket.to(roomName).emit('user-joined', { socketId: socket.id, room: roomName });
      ack?.(joined);
    });
    socket.on('message', (message) => {
      const room = message.replyToSender === true ? io.to(message.roomName) : socket.to(message.roomName);
      room.emit('message-reply', message);
    });
  });
}
