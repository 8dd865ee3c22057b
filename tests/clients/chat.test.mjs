// The chat application of NestJS's camelCase events, in both namespaces.
import assert from 'node:assert/strict';
import { ask, next, several, untaken, withoutOffset } from './client.mjs';
import { assertFields, story } from './story.mjs';

for (const namespace of ['/', '/chat']) {
  story(`a chat in ${namespace}`, async ({ connect }) => {
    const ann = await connect({ namespace, auth: { clientName: 'Ann' } });
    const bob = await connect({ namespace, auth: { clientName: 'Bob' } });

    const ack = await ask(ann, 'joinRoom', { roomId: 'talk' });
    assertFields(
      ack,
      { clientId: ann.id, clientName: 'Ann', success: true, roomName: 'talk', roomId: 'talk' },
      [],
    );
    assert.deepEqual(await next(ann, 'joinedRoom'), { roomId: 'talk' });
    assert.equal((await ask(bob, 'joinRoom', 'talk')).roomName, 'talk');
    assert.equal(await next(bob, 'joinedRoom'), 'talk');
    assertFields(await next(ann, 'userJoinedRoom'), {
      userId: null,
      socketId: bob.id,
      clientName: 'Bob',
      roomId: 'talk',
    });

    const said = { roomId: 'talk', content: 'hello', mood: '🙂' };
    const sent = await ask(ann, 'sendMessage', said);
    assertFields(sent, { success: true, roomName: 'talk' });
    assertFields(await next(ann, 'messageSent'), { id: sent.id, status: 'sent' });
    for (const socket of [ann, bob]) {
      assertFields(await next(socket, 'newMessage'), { id: sent.id, sender: null, clientId: ann.id, ...said });
    }

    // An id of the client's own is kept; whom it comes from, and when, is for the server to say.
    const forged = { id: 'm-1', sender: 'root', clientId: 'root', timestamp: 'never' };
    assert.equal((await ask(bob, 'sendMessage', { roomId: 'talk', content: '', ...forged })).id, 'm-1');
    for (const socket of [ann, bob]) {
      assertFields(await next(socket, 'newMessage'), { id: 'm-1', sender: null, clientId: bob.id, content: '' });
    }

    ann.emit('typingIndicator', { roomId: 'talk', isTyping: true });
    assertFields(await next(bob, 'userTyping'), {
      userId: null,
      clientId: ann.id,
      clientName: 'Ann',
      roomId: 'talk',
      isTyping: true,
    });
    bob.emit('typingIndicator', { roomId: 'talk', isTyping: false });
    assertFields(await next(ann, 'userTyping'), { clientId: bob.id, isTyping: false });

    assert.equal((await ask(bob, 'readReceipt', { messageId: sent.id, roomId: 'talk' })).success, true);
    for (const socket of [ann, bob]) {
      assertFields(await next(socket, 'messageRead'), {
        messageId: sent.id,
        userId: null,
        clientId: bob.id,
        roomId: 'talk',
      });
    }

    assertFields(await ask(ann, 'leaveRoom', { roomId: 'talk' }), { success: true, roomId: 'talk' }, []);
    assert.deepEqual(await next(ann, 'leftRoom'), { roomId: 'talk' });
    assertFields(await next(bob, 'userLeftRoom'), { userId: null, socketId: ann.id, roomId: 'talk' });
  });

  story(`a disconnect in ${namespace} is told as the join was spelled`, async ({ connect }) => {
    const witness = await connect({ namespace });
    await ask(witness, 'joinRoom', { roomId: 'talk' });
    const [camel, kebab] = [await connect({ namespace }), await connect({ namespace })];
    await ask(camel, 'joinRoom', { roomId: 'talk' });
    await ask(kebab, 'join-room', { roomId: 'talk' });
    assertFields(await next(witness, 'userJoinedRoom'), { socketId: camel.id, roomId: 'talk' });
    assertFields(await next(witness, 'user-joined'), { socketId: kebab.id, room: 'talk' });

    const ids = [camel.id, kebab.id];
    camel.close();
    assertFields(await next(witness, 'userLeftRoom'), { socketId: ids[0], roomId: 'talk' });
    kebab.close();
    assertFields(await next(witness, 'user-left'), { socketId: ids[1], room: 'talk' });
    assert.deepEqual(untaken(witness).filter((event) => /left/i.test(event)), []);
  });
}

story('rooms of one name in two namespaces are two rooms', async ({ connect }) => {
  const [ann, bob] = [await connect({ namespace: '/' }), await connect({ namespace: '/chat' })];
  for (const socket of [ann, bob]) await ask(socket, 'joinRoom', { roomId: 'talk' });
  const [here, there] = [{ roomId: 'talk', content: 'here' }, { roomId: 'talk', content: 'there' }];
  await ask(ann, 'sendMessage', here);
  assertFields(await next(ann, 'newMessage'), here);
  await ask(bob, 'sendMessage', there);
  assertFields(await next(bob, 'newMessage'), there);
  await ask(ann, 'sendMessage', { ...here, content: 'end' });
  assertFields(await next(ann, 'newMessage'), { content: 'end', clientId: ann.id });
});

story('one connection carries both namespaces', async ({ server, open, connect }) => {
  // Without forceNew the second one shares the manager of the first.
  const at = { url: server.url };
  const root = open({ forceNew: false }, at);
  const chat = open({ forceNew: false, namespace: '/chat' }, at);
  assert.equal(root.io, chat.io, 'the clients do not share a connection');
  assertFields(await next(root, 'connected'), { clientId: root.id });
  assertFields(await next(chat, 'connected'), { clientId: chat.id });
  await ask(root, 'join-room', 'r');
  await ask(chat, 'joinRoom', 'r');

  const other = await connect({ namespace: '/chat' });
  await ask(other, 'message', { roomName: 'r', n: 1 });
  assert.deepEqual(withoutOffset(await next(chat, 'message-reply')), { roomName: 'r', n: 1 });

  chat.disconnect();
  await next(other, 'client-disconnected');
  assertFields(await ask(root, 'join-room', 'still here'), { success: true, clientId: root.id }, []);
});

story('generation 2 chats in /chat, which it names together with its query', async ({ connect }) => {
  // Generations 1 and 2 ask for "/chat?clientName=Old": the query is no part of the namespace's name.
  const old = await connect({ version: 2, namespace: '/chat', query: { clientName: 'Old' } });
  const young = await connect({ version: 4, namespace: '/chat' });
  assert.equal((await ask(old, 'joinRoom', { roomId: 'talk' })).clientName, 'Old');
  assert.deepEqual(await next(old, 'joinedRoom'), { roomId: 'talk' });
  await ask(young, 'joinRoom', { roomId: 'talk' });
  await ask(young, 'sendMessage', { roomId: 'talk', content: 'hello' });
  assertFields(await next(old, 'newMessage'), { clientId: young.id, content: 'hello' });
  await ask(old, 'sendMessage', { roomId: 'talk', content: 'hello yourself' });
  await next(young, 'newMessage', ({ content }) => content === 'hello yourself');
});

story('custom events go to a room or to everyone, but never back', async ({ connect, member }) => {
  const [ann, bob, cem] = [await member('r'), await member('r'), await connect()];

  const steps = { steps: ['left', 'right'], music: Buffer.from([1, 2, 3]) };
  const ack = await ask(ann, 'custom-event', { event: 'dance', data: steps, room: 'r' });
  assert.equal(ack.success, true);
  assert.equal(typeof ack.message, 'string');
  assert.deepEqual(await next(bob, 'dance'), steps);

  await ask(ann, 'custom-event', { event: 'dance', data: 'everyone' });
  assert.deepEqual(await several(bob, 'dance', 1), ['everyone']);
  assert.equal(await next(cem, 'dance'), 'everyone', 'what was for the room came to an outsider');
  await ask(bob, 'custom-event', { event: 'dance', data: 'end', room: 'r' });
  assert.equal(await next(ann, 'dance'), 'end', 'a sender heard its own custom event');
});

story('ping and heartbeat', async ({ connect }) => {
  const socket = await connect();
  const before = Date.now();
  socket.emit('ping');
  const { timestamp, message } = await next(socket, 'pong');
  assert.equal(message, 'Pong response');
  assert.equal(typeof timestamp, 'number');
  assert.ok(timestamp >= before - 1000 && timestamp <= Date.now() + 1000, `${timestamp} is not now in milliseconds`);
  assert.equal((await ask(socket, 'heartbeat', {})).success, true);
});
