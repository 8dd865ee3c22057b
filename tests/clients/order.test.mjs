// What one client sends is done in the order in which it was sent, and a room has one order for all.
import assert from 'node:assert/strict';
import { ask, next, several } from './client.mjs';
import { emitted } from './server.mjs';
import { story } from './story.mjs';

const numbers = (count) => Array.from({ length: count }, (_, n) => n);

for (const how of [
  { version: 4, transports: ['websocket'] },
  { version: 4, transports: ['polling'] },
  { version: 3, transports: ['websocket'] },
  { version: 2, transports: ['websocket'] },
  { version: 2, transports: ['polling'] },
]) {
  story(`v${how.version}, ${how.transports}: a join and 200 messages without waiting`, async ({ connect, member }) => {
    const witness = await member('r');
    const sender = await connect(how);
    sender.emit('join-room', { roomName: 'r' });
    for (const n of numbers(200)) sender.emit('message', { roomName: 'r', n, omitSender: false });
    const left = ask(sender, 'leave-room', { roomName: 'r' });
    sender.emit('message', { roomName: 'r', n: 200 });

    const heard = await several(witness, 'message-reply', 201);
    assert.deepEqual(heard.map(({ n }) => n), numbers(201));
    const own = await several(sender, 'message-reply', 200);
    assert.deepEqual(own.map(({ n }) => n), numbers(200));
    assert.equal((await left).success, true);

    await ask(sender, 'join-room', { roomName: 'r' });
    sender.emit('message', { roomName: 'r', n: 'end', omitSender: false });
    assert.equal((await next(sender, 'message-reply')).n, 'end');
  });
}

story('two senders, three members, one order', async ({ connect, member }) => {
  const members = [
    await member('r', { version: 4 }),
    await member('r', { version: 4, transports: ['polling'] }),
    await member('r', { version: 2 }),
  ];
  const senders = [await connect({ version: 4 }), await connect({ version: 3 })];
  const each = 150;
  for (const n of numbers(each)) {
    for (const [from, sender] of senders.entries()) sender.emit('message', { roomName: 'r', from, n });
  }

  const heard = [];
  for (const socket of members) heard.push(await several(socket, 'message-reply', each * senders.length));
  assert.deepEqual(heard[1], heard[0]);
  assert.deepEqual(heard[2], heard[0]);
  for (const from of senders.keys()) {
    assert.deepEqual(heard[0].filter((message) => message.from === from).map(({ n }) => n), numbers(each));
  }
});

story('a client that upgrades in the middle misses nothing and hears nothing twice', async ({ connect, member }) => {
  const sender = await member('r');
  const upgrading = await connect({ transports: ['polling', 'websocket'] });
  const upgrade = upgrading.io.engine.transport.name === 'websocket' ? undefined : emitted(upgrading.io.engine, 'upgrade');
  await ask(upgrading, 'join-room', { roomName: 'r' });
  for (const n of numbers(200)) {
    sender.emit('message', { roomName: 'r', from: 'sender', n });
    upgrading.emit('message', { roomName: 'r', from: 'upgrading', n });
  }
  await upgrade;
  const heard = await several(upgrading, 'message-reply', 200);
  assert.deepEqual(heard.map(({ n }) => n), numbers(200));
  const others = await several(sender, 'message-reply', 200);
  assert.deepEqual(others.map(({ n }) => n), numbers(200));
});

story('the acknowledgements of one client come in the order in which it asked', async ({ member }) => {
  const socket = await member('r');
  const order = [];
  await Promise.all(
    numbers(50).map(async (n) => {
      const ack = await ask(socket, 'message', { roomName: 'r', id: `m-${n}`, n });
      order.push(ack.id);
    }),
  );
  assert.deepEqual(order, numbers(50).map((n) => `m-${n}`));
});
