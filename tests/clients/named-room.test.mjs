// The application that names its rooms, and the one that has none.
import assert from 'node:assert/strict';
import { ask, next, several, untaken, withoutOffset } from './client.mjs';
import { assertFields, story } from './story.mjs';

story('one room by all its spellings, and who comes and goes', async ({ connect }) => {
  const names = ['Ann', 'Bob', 'Cem', 'Dee'];
  const spellings = [{ roomName: 'lobby' }, { room: 'lobby' }, { roomId: 'lobby' }, 'lobby'];
  const clients = [];
  for (const [index, clientName] of names.entries()) {
    const socket = await connect({ auth: { clientName } });
    const ack = await ask(socket, 'join-room', spellings[index]);
    const echo = typeof spellings[index] === 'string' ? {} : spellings[index];
    assertFields(ack, { clientId: socket.id, clientName, success: true, roomName: 'lobby', ...echo }, []);
    assertFields(await next(socket, 'room-joined'), {
      success: true,
      roomName: 'lobby',
      message: 'Successfully joined room: lobby',
    });
    for (const earlier of clients) {
      assertFields(await next(earlier, 'user-joined'), {
        socketId: socket.id,
        userId: null,
        clientName,
        room: 'lobby',
      });
    }
    clients.push(socket);
  }
  const [ann, bob, cem, dee] = clients;

  const ack = await ask(dee, 'leave-room', 'lobby');
  assertFields(ack, { clientId: dee.id, success: true, roomName: 'lobby' }, []);
  assertFields(await next(dee, 'room-left'), {
    success: true,
    roomName: 'lobby',
    message: 'Successfully left room: lobby',
  });
  const { id } = cem;
  for (const socket of [ann, bob, cem]) {
    assertFields(await next(socket, 'user-left'), {
      socketId: dee.id,
      userId: null,
      clientName: 'Dee',
      room: 'lobby',
    });
  }

  cem.close();
  for (const socket of [ann, bob]) {
    assertFields(await next(socket, 'user-left'), { socketId: id, clientName: 'Cem', room: 'lobby' });
  }
  assert.ok(!untaken(ann).includes('user-joined'), 'Ann was told of her own join, or of one twice');
});

story('joining twice, and leaving from outside, succeed and disturb nobody', async ({ connect, member }) => {
  const ann = await member('lobby');
  const bob = await member('lobby');
  await next(ann, 'user-joined');
  await next(bob, 'room-joined');

  assert.equal((await ask(bob, 'join-room', { roomName: 'lobby' })).success, true);
  const outsider = await connect();
  assert.equal((await ask(outsider, 'leave-room', { roomName: 'lobby' })).success, true);

  assert.equal((await ask(outsider, 'join-room', { roomName: 'lobby' })).success, true);
  assert.equal((await next(ann, 'user-joined')).socketId, outsider.id);
  assert.equal((await next(bob, 'user-joined')).socketId, outsider.id);
  await next(outsider, 'room-joined');
  assert.deepEqual(untaken(bob).filter((event) => event === 'room-joined'), []);
  assert.deepEqual(untaken(outsider).filter((event) => event === 'room-left'), []);
  assert.deepEqual(untaken(ann).filter((event) => event === 'user-left'), []);
});

story('a message goes to the room it names, also from outside, and to no other', async ({ connect, member }) => {
  const ann = await member('red');
  const bob = await member('blue');
  const outsider = await connect();

  const red = { roomName: 'red', message: 'to red' };
  assert.equal((await ask(outsider, 'message', red)).roomName, 'red');
  assert.deepEqual(withoutOffset(await next(ann, 'message-reply')), red);
  const blue = { roomName: 'blue', message: 'to blue' };
  await ask(outsider, 'message', blue);
  assert.deepEqual(withoutOffset(await next(bob, 'message-reply')), blue);

  // Of several spellings the first in the order roomName, roomId, room, resourceId counts; null is absent.
  const both = { resourceId: 7, room: 'green', roomId: 'blue', roomName: null };
  assert.equal((await ask(outsider, 'message', both)).roomName, 'blue');
  assert.deepEqual(withoutOffset(await next(bob, 'message-reply')), both);
});

story('without a room, text goes to everyone', async ({ connect }) => {
  const clients = [
    await connect(),
    await connect({ transports: ['polling'] }),
    await connect({ version: 3 }),
    await connect({ version: 2 }),
  ];
  for (const [index, sender] of clients.entries()) {
    sender.send(`hello from ${index}`);
    const object = { text: `object from ${index}`, extra: { kept: true } };
    assert.equal((await ask(sender, 'message', object)).success, true);
    for (const socket of clients) {
      assert.deepEqual(await several(socket, 'message', 2), [`hello from ${index}`, object]);
    }
  }
});

story('without a room and without text there is nobody to send to', async ({ connect }) => {
  const [ann, bob] = [await connect(), await connect()];
  for (const payload of [{ message: 'hi' }, {}, null, 5, true, ['text']]) {
    const message = 'No resourceId specified in the message';
    assertFields(await ask(ann, 'message', payload), { success: false, message, code: 'no_room' }, []);
    assertFields(await next(ann, 'error'), { message, code: 'no_room', event: 'message' }, []);
  }
  ann.send('end');
  assert.equal(await next(bob, 'message'), 'end');
  assert.ok(!untaken(bob).includes('error'), 'an error is for the sender only');
});
