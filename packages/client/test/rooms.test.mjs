// Rooms recover by themselves: no gap, no duplicate, and a word where something cannot be had.
import assert from 'node:assert/strict';
import { ask, log, range, state, story, within, write } from './world.mjs';

/** Joins a room and records its messages' numbers, gaps and resets, in order. */
function watch(client, room = client.join('r')) {
  const seen = log();
  room.on('message-reply', ({ n }) => seen.add(n));
  room.when('gap', ({ from, to, reason }) => seen.add({ gap: [from, to], reason }));
  room.when('reset', ({ reason }) => seen.add({ reset: reason }));
  return { room, seen };
}

const DEVELOPMENT = { NODE_ENV: 'development' };

const post = async (server, path, body) => {
  const response = await fetch(server.url + path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  assert.equal(response.status, 201, await response.clone().text());
  return response.json();
};

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  story(`thousands of messages by ${transports} through a network that breaks again and again`, { HISTORY_SIZE: '10000' }, async ({ client, plain, net }) => {
    const { room, seen } = watch(client({ socket: { transports } }));
    await room.joined;
    const writer = await plain();
    for (let round = 0; round < 30; round++) {
      const sent = write(writer, 'r', round * 100 + 1, round * 100 + 100);
      net.cutAfter = 1 + round * 700;
      await sent;
    }
    net.cutAfter = Infinity;
    await seen.until(3000);
    assert.deepEqual(seen.entries, range(1, 3000));
    assert.equal(room.position.offset, 3000);
  });
}

for (const limit of ['5', '1000', '0']) {
  story(`a long absence is caught up in order while others write, RECOVERY_LIMIT=${limit}`, { RECOVERY_LIMIT: limit, HISTORY_SIZE: '20000' }, async ({ client, plain, net }) => {
    const reader = client();
    const { room, seen } = watch(reader);
    const other = watch(reader, reader.join('s'));
    await Promise.all([room.joined, other.room.joined]);
    const writer = await plain();
    net.cut();
    await state(reader, 'disconnected');
    await write(writer, 'r', 1, 7000);
    await write(writer, 's', 1, 3000);
    net.restore();
    await write(writer, 'r', 7001, 8000);
    // In the middle of a page, and again.
    for (const bytes of [30_000, 90_000]) {
      net.cutAfter = bytes;
      await seen.until((all) => all.length > 500);
    }
    await write(writer, 'r', 8001, 9000);
    await Promise.all([seen.until(9000), other.seen.until(3000)]);
    assert.deepEqual(seen.entries, range(1, 9000));
    assert.deepEqual(other.seen.entries, range(1, 3000));
  });
}

story('a server that is killed loses nothing that it has acknowledged', async (world) => {
  const reader = world.client();
  const { room, seen } = watch(reader);
  await room.joined;
  let writer = await world.plain();
  for (const round of [0, 1, 2]) {
    await write(writer, 'r', round * 50 + 1, round * 50 + 50);
    const gone = state(reader, 'disconnected');
    const again = state(room, 'joined');
    await world.crash();
    await gone;
    assert.equal((await again).complete, true);
    writer = await world.plain();
  }
  await write(writer, 'r', 151, 160);
  await seen.until(160);
  assert.deepEqual(seen.entries, range(1, 160));
});

story('what the history no longer has is told as a gap, and what it has follows', { HISTORY_SIZE: '50' }, async ({ client, plain, net }) => {
  const reader = client();
  const { room, seen } = watch(reader);
  await room.joined;
  const writer = await plain();
  await write(writer, 'r', 1, 3);
  await seen.until(3);
  net.cut();
  await state(reader, 'disconnected');
  await write(writer, 'r', 4, 200);
  const joined = state(room, 'joined');
  net.restore();
  assert.equal((await joined).complete, false);
  await write(writer, 'r', 201, 201);
  await seen.until(55);
  const { gap, reason } = seen.entries[3];
  assert.deepEqual([gap[0], reason], [4, 'trimmed']);
  assert.deepEqual(seen.entries.slice(4), range(gap[1] + 1, 201));
});

story('a history that was lost is told as a reset, and what the new one has follows', { STORE_URL: 'memory:' }, async (world) => {
  const reader = world.client();
  const { room, seen } = watch(reader);
  await room.joined;
  await write(await world.plain(), 'r', 1, 5);
  await seen.until(5);
  const { epoch } = room.position;
  world.net.cut();
  await world.crash();
  const writer = await world.plain();
  await write(writer, 'r', 6, 8);
  world.net.restore();
  await seen.until(9);
  await write(writer, 'r', 9, 9);
  await seen.until(10);
  assert.deepEqual(seen.entries, [...range(1, 5), { reset: 'epoch' }, ...range(6, 9)]);
  assert.equal(room.position.offset, 4);
  assert.notEqual(room.position.epoch, epoch);
});

story('a room goes on from a position that was kept, and from the oldest message', async ({ client, plain }) => {
  const writer = await plain();
  await write(writer, 'r', 1, 20);
  const first = client();
  const all = watch(first, first.join('r', { offset: 0 }));
  await all.seen.until(20);
  assert.deepEqual(all.seen.entries, range(1, 20));
  await all.room.joined;
  const { position } = all.room;
  first.close();
  await write(writer, 'r', 21, 30);
  const second = client();
  const rest = watch(second, second.join('r', position));
  await rest.seen.until(10);
  assert.deepEqual(rest.seen.entries, range(21, 30));
});

story('a room that is joined twice is one membership, until the last one leaves', async ({ client, plain, server }) => {
  const reader = client();
  const writer = await plain();
  await ask(writer, 'join-room', 'r');
  const left = new Promise((done) => writer.on('user-left', done));
  const [one, two] = [watch(reader), watch(reader)];
  await Promise.all([one.room.joined, two.room.joined]);
  await write(writer, 'r', 1, 1);
  await Promise.all([one.seen.until(1), two.seen.until(1)]);
  one.room.leave();
  one.room.leave();
  await write(writer, 'r', 2, 2);
  await two.seen.until(2);
  assert.deepEqual([one.seen.entries, two.seen.entries], [[1], [1, 2]]);
  await assert.rejects(one.room.send({ text: 'x' }), { code: 'left' });
  two.room.leave();
  await within(left, 'user-left');
  const again = watch(reader);
  await again.room.joined;
  await write(writer, 'r', 3, 3);
  await again.seen.until(1);
  assert.deepEqual([two.seen.entries, again.seen.entries], [[1, 2], [3]]);
  assert.match(server.url, /^http/);
});

story('a room that is left while it catches up delivers nothing more', { RECOVERY_LIMIT: '5', HISTORY_SIZE: '20000' }, async ({ client, plain, net }) => {
  const reader = client();
  const { room, seen } = watch(reader);
  await room.joined;
  const writer = await plain();
  net.cut();
  await write(writer, 'r', 1, 5000);
  net.restore();
  await seen.until(1);
  room.leave();
  const count = seen.entries.length;
  const everywhere = log();
  reader.on('message-reply', ({ n }) => everywhere.add(n));
  const again = watch(reader);
  await again.room.joined;
  await write(writer, 'r', 5001, 5001);
  await again.seen.until(1);
  assert.equal(seen.entries.length, count);
  assert.deepEqual([again.seen.entries, everywhere.entries], [[5001], [5001]]);
});

story('every way to name a room is understood', DEVELOPMENT, async ({ client, plain, server }) => {
  const reader = client();
  const seen = log();
  for (const key of ['a', { roomId: 'b' }, { room: 'c' }, { resourceId: 7 }]) {
    const room = reader.join(key);
    for (const event of ['message-reply', 'newMessage', 'resource-update']) room.on(event, () => seen.add([room.name, event]));
    await room.joined;
  }
  const writer = await plain();
  await ask(writer, 'message', { roomName: 'a' });
  await ask(writer, 'sendMessage', { roomId: 'b', content: 'x' });
  await ask(writer, 'channels', { resourceId: 7 });
  await post(server, '/events', { event: 'message-reply', data: { room: 'c' }, rooms: ['c'] });
  await seen.until(4);
  const expected = [['a', 'message-reply'], ['b', 'newMessage'], ['resource:7', 'resource-update'], ['c', 'message-reply']];
  assert.deepEqual(seen.entries, expected);
  assert.throws(() => reader.join({ name: 'a' }), /roomName/);
});

story("a backend's own events come once, also those that do not name their room", DEVELOPMENT, async ({ client, server, net }) => {
  const reader = client();
  const [room, other] = [reader.join('prices'), reader.join('news')];
  await Promise.all([room.joined, other.joined]);
  const seen = log();
  reader.on('price', ({ n }) => seen.add(n));
  const tell = (n) => post(server, '/events', { event: 'price', data: { n }, rooms: ['prices'] });
  for (const n of [1, 2, 3]) await tell(n);
  await seen.until(3);
  net.cut();
  await state(reader, 'disconnected');
  for (const n of [4, 5]) await tell(n);
  const joined = state(room, 'joined');
  net.restore();
  await joined;
  await tell(6);
  await seen.until((all) => all.includes(6));
  assert.deepEqual(seen.entries, [1, 2, 3, 4, 5, 6]);
});

story('forged offsets do not stop a room', async ({ client, plain, net }) => {
  const reader = client();
  const { room, seen } = watch(reader);
  await room.joined;
  const forged = log();
  room.on('forged', (data) => forged.add(data));
  const writer = await plain();
  const data = { roomName: 'r', offset: 1_000_000, n: -1 };
  assert.equal((await ask(writer, 'custom-event', { event: 'forged', data, room: 'r' })).success, true);
  for (const event of ['message-reply', 'newMessage', 'resource-update', 'room-left']) {
    assert.equal((await ask(writer, 'custom-event', { event, data, room: 'r' })).code, 'forbidden');
  }
  await write(writer, 'r', 1, 3);
  await seen.until(3);
  net.drop();
  await state(reader, 'connected');
  await write(writer, 'r', 4, 4);
  await seen.until(4);
  assert.deepEqual(seen.entries, [1, 2, 3, 4]);
  assert.equal(forged.entries.length, 1);
});

story('without history messages come as they are', { HISTORY_SIZE: '0' }, async ({ client, plain, net }) => {
  const reader = client();
  const { room, seen } = watch(reader);
  assert.deepEqual(await room.joined, { complete: true, position: undefined });
  const writer = await plain();
  for (const n of [1, 2]) await ask(writer, 'message', { roomName: 'r', n, offset: 7 });
  await seen.until(2);
  net.drop();
  await state(room, 'joined');
  await ask(writer, 'message', { roomName: 'r', n: 3, offset: 1 });
  await seen.until(3);
  assert.deepEqual(seen.entries, [1, 2, 3]);
});

story('with connection state recovery nothing comes twice', { CONNECTION_STATE_RECOVERY: '2m' }, async ({ client, plain, net }) => {
  const reader = client();
  const { room, seen } = watch(reader);
  await room.joined;
  const seenArguments = log();
  room.on('message-reply', (...args) => seenArguments.add(args.length));
  const writer = await plain();
  for (const round of range(0, 9)) {
    const connected = state(reader, 'connected');
    net.drop();
    await write(writer, 'r', round * 10 + 1, round * 10 + 10);
    assert.equal((await connected).recovered, true);
  }
  await seen.until(100);
  assert.deepEqual(seen.entries, range(1, 100));
  assert.ok(seenArguments.entries.every((count) => count === 1));
});

story('a backend that puts a client out of a room is heard, and the client stays out', DEVELOPMENT, async ({ client, plain, server, net }) => {
  const reader = client();
  const { room } = watch(reader);
  await room.joined;
  const left = state(room, 'left');
  const response = await fetch(`${server.url}/connections/${reader.clientId}/rooms?room=r`, { method: 'DELETE' });
  assert.equal(response.status, 200);
  await left;
  const writer = await plain();
  await ask(writer, 'join-room', 'r');
  let came = 0;
  writer.on('user-joined', () => came++);
  net.drop();
  await state(reader, 'connected');
  await ask(writer, 'ping', {});
  assert.equal(came, 0);
});
