// What is sent is done once, in order, whatever becomes of the connection.
import assert from 'node:assert/strict';
import { inSeconds, SECRET, sign } from '../../../tests/clients/token.mjs';
import { ask, log, range, state, story, within } from './world.mjs';

/** A plain socket in the room `r`, and the numbers that it hears. */
async function witness(plain, options) {
  const socket = await plain(options);
  const heard = log();
  for (const event of ['message-reply', 'newMessage', 'resource-update', 'signal']) socket.on(event, ({ n, content }) => heard.add(n ?? content));
  assert.equal((await ask(socket, 'join-room', 'r')).success, true);
  return heard;
}

const rejection = async (promise, code) => assert.rejects(within(promise, `a rejection as ${code}`), { name: 'RoomcastError', code });

for (const [who, options, env] of [
  ['a user', { token: () => sign({ sub: 'ann' }) }, { JWT_SECRET: SECRET }],
  ['a claimed user', { user: 'ann' }, {}],
  ['nobody, who is in the room', {}, {}],
]) {
  story(`sends of ${who} are done once and in order, however often the connection breaks`, env, async ({ client, plain, net }) => {
    const heard = await witness(plain, { auth: { token: sign({ sub: 'ben' }) } });
    const sender = client(options);
    const room = sender.join('r');
    const own = log();
    room.on('message-reply', ({ n }) => own.add(n));
    await room.joined;
    for (let round = 0; round < 10; round++) {
      const sent = range(round * 10 + 1, round * 10 + 10).map((n) => room.send({ n }));
      await sent[0];
      net.isDeaf = true;
      // The server does what it is sent; nothing of it is heard.
      await heard.until((all) => all.length > round * 10 + 1);
      net.drop();
      net.isDeaf = false;
      const acks = await within(Promise.all(sent), 'all acknowledgements');
      assert.deepEqual(acks.map(({ offset }) => offset), range(round * 10 + 1, round * 10 + 10));
    }
    await Promise.all([heard.until(100), own.until(100)]);
    assert.deepEqual(heard.entries, range(1, 100));
    assert.deepEqual(own.entries, range(1, 100));
    assert.equal(sender.pending, 0);
  });
}

story('what was acknowledged survives the death of the server, and what was not is sent again', { JWT_SECRET: SECRET }, async (world) => {
  const sender = world.client({ token: () => sign({ sub: 'ann' }) });
  const room = sender.join('r');
  const seen = log();
  room.on('newMessage', ({ content }) => seen.add(content));
  await room.joined;
  const sent = [];
  for (const round of [0, 1, 2]) {
    for (const n of range(1, 200)) sent.push(room.say(round * 200 + n));
    await sent[round * 200 + 20];
    await world.crash();
  }
  const acks = await within(Promise.all(sent), 'all acknowledgements', 20_000);
  await seen.until(600);
  assert.deepEqual(seen.entries, range(1, 600));
  assert.deepEqual(acks.map(({ offset }) => offset), range(1, 600));
});

story('sends that are made without a connection wait for it', async ({ client, plain, net }) => {
  const heard = await witness(plain);
  net.cut();
  const sender = client({ user: 'ann', maxPending: 5 });
  const room = sender.join('r');
  const content = { n: 1 };
  const sent = range(1, 5).map((n) => room.send(Object.assign(content, { n })));
  await rejection(room.send({ n: 6 }), 'outbox_full');
  net.restore();
  await within(Promise.all(sent), 'all acknowledgements');
  // What was changed after it was sent does not matter.
  assert.deepEqual(await heard.until(5), range(1, 5));
});

story('a limit slows sends down and loses none', { RATE_LIMIT_EVENTS: '50', RATE_LIMIT_BURST: '10' }, async ({ client, plain }) => {
  const heard = await witness(plain);
  const sender = client();
  let lost = 0;
  sender.when('disconnected', () => lost++);
  const rooms = range(0, 14).map((n) => sender.join(`room-${n}`));
  const room = sender.join('r');
  const sent = range(1, 60).map((n) => room.send({ n }));
  await within(Promise.all([...sent, ...rooms.map(({ joined }) => joined)]), 'all acknowledgements');
  await heard.until(60);
  assert.deepEqual(heard.entries, range(1, 60));
  assert.equal(lost, 0);
});

story('a sender that wants no copy gets none, not even by recovery', async ({ client, plain, net }) => {
  const heard = await witness(plain);
  const sender = client({ user: 'ann' });
  const room = sender.join('r');
  const own = log();
  room.on('message-reply', ({ n }) => own.add(n));
  await room.joined;
  const position = room.position;
  assert.equal((await room.send({ n: 1 }, { copy: false })).offset, 1);
  // One whose acknowledgement is lost.
  net.isDeaf = true;
  const second = room.send({ n: 2 }, { copy: false });
  await heard.until(2);
  net.drop();
  net.isDeaf = false;
  assert.equal((await second).offset, 2);
  assert.equal((await room.send({ n: 3 })).offset, 3);
  await own.until(1);
  net.drop();
  await state(room, 'joined');
  assert.equal((await room.send({ n: 4 })).offset, 4);
  await own.until(2);
  assert.deepEqual(own.entries, [3, 4]);
  assert.equal(position.offset, 0);
});

story('what nobody can repeat safely is said to be unconfirmed', async ({ client, plain, net }) => {
  const heard = await witness(plain);
  const sender = client();
  await state(sender, 'connected');
  net.isDeaf = true;
  const outside = sender.send('message', { roomName: 'r', n: 1 });
  const signal = sender.send('custom-event', { room: 's', event: 'signal', data: { n: 2 } });
  await heard.until(1);
  net.drop();
  net.isDeaf = false;
  await rejection(outside, 'unconfirmed');
  await rejection(signal, 'unconfirmed');
  assert.equal((await sender.send('message', { roomName: 'r', n: 3 })).success, true);
  assert.deepEqual(await heard.until(2), [1, 3]);
});

story('nothing of one user is sent again as another', { JWT_SECRET: SECRET }, async ({ client, plain, net }) => {
  const heard = await witness(plain, { auth: { token: sign({ sub: 'ben' }) } });
  let sub = 'ann';
  const sender = client({ token: () => sign({ sub }) });
  await state(sender, 'connected');
  net.cut();
  const sent = sender.send('message', { roomName: 'r', n: 1 });
  sub = 'eve';
  net.restore();
  await rejection(sent, 'user_changed');
  assert.equal(sender.user, 'eve');
  await sender.send('message', { roomName: 'r', n: 2 });
  assert.deepEqual(await heard.until(1), [2]);
});

story('refusals, time-outs and the end reject with their codes', { JWT_SECRET: SECRET }, async ({ client, net }) => {
  const sender = client({ token: () => sign({ sub: 'ann', rooms: ['r'] }), sendTimeout: 1500 });
  await rejection(sender.send('message', { roomName: 'secret', n: 1 }), 'forbidden');
  await rejection(sender.join('secret').joined, 'forbidden');
  await rejection(sender.broadcast('to all'), 'forbidden');
  const key = { idempotencyKey: 'k' };
  assert.equal((await sender.send('message', { roomName: 'r', ...key, id: 'x', n: 1 })).id, 'x');
  await rejection(sender.send('message', { roomName: 'r', ...key, id: 'x', n: 2 }), 'idempotency_mismatch');
  net.cut();
  await rejection(sender.send('message', { roomName: 'r', n: 1 }), 'timeout');
  const last = sender.send('message', { roomName: 'r', n: 1 });
  sender.close();
  await rejection(last, 'closed');
  await rejection(sender.send('message', { roomName: 'r', n: 1 }), 'closed');
  assert.throws(() => sender.join('r'), { code: 'closed' });
});

story('private messages wait for their user, and come once', { JWT_SECRET: SECRET, QUEUE_CONFIRM: '60s' }, async ({ client, net }) => {
  const ann = client({ token: () => sign({ sub: 'ann' }) });
  for (const text of ['one', 'two', 'three']) {
    const ack = await ann.sendTo('bob', text);
    assert.deepEqual([ack.delivered, ack.queued], [false, true]);
  }
  const bob = client({ token: () => sign({ sub: 'bob', exp: inSeconds(3600) }) });
  const got = log();
  let raw = 0;
  bob.socket.on('private-message', () => raw++);
  bob.on('private-message', ({ from, message }) => got.add([from, message.content]));
  await got.until(3);
  // Nothing is confirmed yet: the queue comes again.
  const connected = state(bob, 'connected');
  net.drop();
  await connected;
  assert.equal((await ann.sendTo('bob', 'four')).success, true);
  await got.until(4);
  await within(
    (async () => {
      while (raw < 7) await new Promise((done) => setImmediate(done));
    })(),
    'the queue again',
  );
  assert.deepEqual(got.entries, ['one', 'two', 'three', 'four'].map((text) => ['ann', text]));
});
