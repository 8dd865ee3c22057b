// What cannot be honoured changes nothing, says why, and leaves the server serving.
import assert from 'node:assert/strict';
import { ask, next, untaken, withoutOffset } from './client.mjs';
import { assertFields, story } from './story.mjs';

const tooLong = 'x'.repeat(201);

/** event, payload, code */
const refusals = [
  ['join-room', {}, 'no_room'],
  ['join-room', { roomName: '' }, 'invalid_payload'],
  ['join-room', { roomName: tooLong }, 'invalid_payload'],
  ['join-room', { roomName: 'a\u0000b' }, 'invalid_payload'],
  ['join-room', { roomName: ['r'] }, 'invalid_payload'],
  ['join-room', 'line\nbreak', 'invalid_payload'],
  ['watch-resource', {}, 'no_room'],
  ['leave-room', {}, 'no_room'],
  ['joinRoom', {}, 'no_room'],
  ['joinRoom', { roomId: tooLong }, 'invalid_payload'],
  ['leaveRoom', {}, 'no_room'],
  ['message', { roomName: tooLong, text: 'x' }, 'invalid_payload'],
  ['message', { message: 'to whom?' }, 'no_room'],
  ['channels', { n: 1 }, 'no_room'],
  ['sendMessage', { content: 'to whom?' }, 'no_room'],
  ['sendMessage', { roomId: 'r' }, 'invalid_payload'],
  ['sendMessage', { roomId: 'r', content: null }, 'invalid_payload'],
  ['typingIndicator', { isTyping: true }, 'no_room'],
  ['typingIndicator', { roomId: 'r' }, 'invalid_payload'],
  ['typingIndicator', { roomId: 'r', isTyping: 'yes' }, 'invalid_payload'],
  ['readReceipt', { roomId: 'r' }, 'invalid_payload'],
  ['readReceipt', { messageId: 'm' }, 'no_room'],
  ['custom-event', { data: 1 }, 'invalid_payload'],
  ['custom-event', { event: 'disconnect', data: 1, room: 'r' }, 'forbidden'],
  ['custom-event', { event: 'connect_error', data: 1, room: 'r' }, 'forbidden'],
  ['custom-event', { event: 'connected', data: 1, room: 'r' }, 'forbidden'],
  ['custom-event', { event: 'message-reply', data: 1, room: 'r' }, 'forbidden'],
  ['custom-event', { event: 'newMessage', data: 1, room: 'r' }, 'forbidden'],
  ['authenticate', {}, 'invalid_payload'],
  ['private-message', { message: 'to whom?' }, 'invalid_payload'],
  ['private-message', { targetUserId: 'nobody', message: 'm', messageType: 'telegram' }, 'invalid_payload'],
  ['private-message', { targetUserId: 'nobody', message: 'm' }, 'not_found'],
  ['presenceUpdate', { status: 'online' }, 'unauthorized'],
  ['syncMessages', { roomId: 'r', limit: 0 }, 'invalid_payload'],
  ['syncMessages', { roomId: 'r', limit: 1001 }, 'invalid_payload'],
  ['no-such-event', { roomName: 'r' }, 'unknown_event'],
];

/** The camelCase events, whose applications listen to what NestJS's guards and pipes send. */
const camelCase = new Set([
  'joinRoom',
  'leaveRoom',
  'sendMessage',
  'typingIndicator',
  'readReceipt',
  'presenceUpdate',
  'syncMessages',
]);

for (const version of [4, 3, 2]) {
  story(`wrong payloads from generation ${version} are refused with a reason`, async ({ member }) => {
    const witness = await member('r');
    const socket = await member('r', { version });
    await next(socket, 'room-joined');

    for (const [event, payload, code] of refusals) {
      const what = `${event} ${JSON.stringify(payload).slice(0, 60)}`;
      const ack = await ask(socket, event, payload);
      assert.deepEqual({ success: ack.success, code: ack.code }, { success: false, code }, what);
      assert.equal(typeof ack.message, 'string', what);
      assert.notEqual(ack.message, '', what);
      assertFields(await next(socket, 'error'), { message: ack.message, code, event }, []);
      if (camelCase.has(event)) {
        assertFields(await next(socket, 'exception'), { status: 'error', message: ack.message }, []);
      }
    }

    // Nothing of all this reached the room, and the next thing asked for is done.
    const good = { roomName: 'r', message: 'still here', replyToSender: true };
    assert.equal((await ask(socket, 'message', good)).success, true);
    for (const member of [socket, witness]) {
      assert.deepEqual(withoutOffset(await next(member, 'message-reply')), good);
    }
    const harmless = ['connected', 'client-connected', 'room-joined', 'user-joined'];
    assert.deepEqual(untaken(witness).filter((event) => !harmless.includes(event)), []);
    assert.deepEqual(untaken(socket).filter((event) => !harmless.includes(event)), []);
  });
}

story('the refusal of a message without a room has the words its applications know', async ({ connect }) => {
  const socket = await connect();
  const message = 'No resourceId specified in the message';
  for (const event of ['message', 'channels']) {
    socket.emit(event, { n: 1 });
    assert.deepEqual(await next(socket, 'error'), { message, code: 'no_room', event });
  }
  const offline = await ask(socket, 'private-message', { target: 'nobody', message: 'm' });
  assert.equal(offline.message, 'Target user not found or offline');
});

story('events without a payload, or with one too many, end nothing', async ({ connect }) => {
  const socket = await connect();
  for (const event of ['message', 'join-room', 'leaveRoom', 'sendMessage', 'authenticate', 'custom-event', 'channels']) {
    const ack = await ask(socket, event);
    assert.equal(ack.success, false, event);
    assert.equal((await next(socket, 'error')).event, event);
  }
  for (const payload of [[], [[]], 0, true, '', { roomName: {} }, Buffer.from([1])]) {
    assert.equal((await ask(socket, 'sendMessage', payload)).success, false);
    assert.equal((await next(socket, 'error')).event, 'sendMessage');
  }
  const surplus = await ask(socket, 'join-room', { roomName: 'r' }, 'surplus');
  assert.equal(surplus.code, 'invalid_payload');
  assert.equal((await next(socket, 'error')).event, 'join-room');
  assert.equal((await ask(socket, 'join-room', { roomName: 'r' })).roomName, 'r');
});
