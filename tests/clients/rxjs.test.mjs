// Applications on rxjs, ngx-socket-io among them, read events by fromEvent: it must yield the object itself.
import assert from 'node:assert/strict';
import { firstValueFrom, fromEvent, take, timeout, toArray } from 'rxjs';
import { ask, connected, withoutOffset } from './client.mjs';
import { DEADLINE_MS } from './server.mjs';
import { assertFields, story } from './story.mjs';

/** A promise of the first value of the event, subscribed to at once. */
const first = (socket, event) => firstValueFrom(fromEvent(socket, event).pipe(timeout(DEADLINE_MS)));

for (const version of [4, 3, 2]) {
  story(`fromEvent on a client of generation ${version} yields objects, not arrays`, async ({ open }) => {
    const socket = open({ version });
    const greeting = Promise.all([first(socket, 'connected'), first(socket, 'client-connected')]);
    await connected(socket);
    const [hello, announced] = await greeting;
    assertFields(hello, { message: 'Connected to WebSocket server', clientId: socket.id });
    assertFields(announced, { clientId: socket.id }, []);

    const joined = first(socket, 'room-joined');
    await ask(socket, 'join-room', { roomName: 'r' });
    assertFields(await joined, { roomName: 'r' });

    const replies = firstValueFrom(
      fromEvent(socket, 'message-reply').pipe(take(2), toArray(), timeout(DEADLINE_MS)),
    );
    const sent = [1, 2].map((n) => ({ roomName: 'r', n, list: [n], replyToSender: true }));
    for (const message of sent) socket.emit('message', message);
    assert.deepEqual((await replies).map(withoutOffset), sent);

    const rest = {
      'resource-update': () => socket.emit('channels', { roomName: 'r', n: 3 }),
      message: () => socket.emit('message', { text: 'everyone' }),
      newMessage: () => socket.emit('sendMessage', { roomId: 'r', content: 'c' }),
      messageSent: () => socket.emit('sendMessage', { roomId: 'r', content: 'c' }),
      messageRead: () => socket.emit('readReceipt', { roomId: 'r', messageId: 'm' }),
      error: () => socket.emit('channels', {}),
      exception: () => socket.emit('sendMessage', { roomId: 'r' }),
      'room-left': () => socket.emit('leave-room', { roomName: 'r' }),
    };
    for (const [event, provoke] of Object.entries(rest)) {
      const value = first(socket, event);
      provoke();
      assert.equal(Object.prototype.toString.call(await value), '[object Object]', event);
    }
  });
}
