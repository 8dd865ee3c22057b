// Connection state recovery, as socket.io-client has it from 4.6 on, without a line of code of its own.
import assert from 'node:assert/strict';
import { arrived, ask, connected, disconnected, next, several } from './client.mjs';
import { post, within } from './server.mjs';
import { story } from './story.mjs';
import { SECRET, sign } from './token.mjs';

const ON = { CONNECTION_STATE_RECOVERY: '2m', NODE_ENV: 'development', LOG_LEVEL: 'info' };

/** The connection breaks. */
const lose = async (socket) => {
  const gone = disconnected(socket);
  socket.io.engine.close();
  assert.match(await gone, /^(forced|transport) close$/);
};

/** Its next connection goes to another node, if there are several. */
const turn = (socket, server) => {
  socket.io.uri = server.url;
};

const back = (socket) => within(new Promise((done) => socket.once('connect', done)), 'a connection that is back');

/** Waits until the others know that a client has gone. */
const goneFor = (witness, id) => next(witness, 'client-disconnected', ({ clientId }) => clientId === id);

const numbers = (socket, event = 'message-reply') => arrived(socket, event).map(({ n }) => n);

for (const version of [4, '4.6']) {
  for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
    story(`v${version}, ${transports}: who comes back has missed nothing`, ON, async ({ server, connect }) => {
      const ann = await connect({ version, transports });
      const bob = await connect();
      assert.equal(ann.recovered, false);
      for (const roomName of ['r', 's']) assert.equal((await ask(ann, 'join-room', { roomName })).success, true);
      assert.equal((await ask(ann, 'authenticate', { userId: 'ann' })).success, true);
      // Another client of its user stays.
      const other = await connect();
      assert.equal((await ask(other, 'authenticate', { userId: 'ann' })).success, true);
      await ask(bob, 'message', { roomName: 'r', n: 0 });
      await next(ann, 'message-reply');
      const { id } = ann;
      await lose(ann);
      await goneFor(bob, id);
      for (let n = 1; n < 50; n++) await ask(bob, 'message', { roomName: n % 2 ? 'r' : 's', n });
      await ask(bob, 'private-message', { targetUserId: 'ann', message: 'hello' });
      const event = { event: 'told', data: 'a text' };
      for (const to of [{ rooms: ['s'] }, { users: ['ann'] }, { clients: [id] }, {}]) {
        assert.equal((await post(server, '/events', { ...event, ...to })).status, 201);
      }
      assert.equal((await post(server, '/events', { event: 'lost', data: 1, volatile: true })).status, 201);
      // By then it has come to the node of both, where there are two.
      await next(other, 'lost');
      const before = arrived(ann, 'connected').length;
      const connects = back(ann);
      turn(ann, server);
      ann.connect();
      await connects;
      assert.equal(ann.recovered, true);
      assert.equal(ann.id, id);
      await ask(bob, 'message', { roomName: 's', n: 50 });
      await next(ann, 'message-reply', ({ n }) => n === 50);
      assert.deepEqual(numbers(ann), [...Array(51).keys()]);
      assert.equal(arrived(ann, 'private-message').length, 1);
      assert.deepEqual(arrived(ann, 'told'), Array(4).fill('a text'));
      assert.equal(arrived(ann, 'lost').length, 0);
      assert.equal(arrived(ann, 'connected').length, before);
      assert.equal(arrived(ann, 'client-connected').filter(({ clientId }) => clientId === id).length, 1);
      assert.equal((await next(bob, 'client-connected', ({ clientId }) => clientId === id)).clientId, id);
    });
  }
}

story('v4: it comes back by itself, again and again, while others write', ON, async ({ server, connect }) => {
  const ann = await connect({ reconnection: true, reconnectionDelay: 1, reconnectionDelayMax: 10 });
  const bob = await connect();
  const { id } = ann;
  for (const roomName of ['r', 's', 't']) await ask(ann, 'join-room', { roomName });
  let writing = true;
  let sent = 0;
  const write = async () => {
    while (writing) await ask(bob, 'message', { roomName: 'rst'[sent % 3], n: sent++ });
  };
  const writer = write();
  for (let round = 0; round < 20; round++) {
    const connects = back(ann);
    turn(ann, server);
    ann.io.engine.close();
    await connects;
    assert.equal(ann.recovered, true);
    assert.equal(ann.id, id);
    const seen = sent;
    await next(ann, 'message-reply', ({ n }) => n >= seen);
  }
  writing = false;
  await writer;
  await ask(ann, 'ping', {});
  assert.deepEqual(numbers(ann), [...Array(sent).keys()]);
});

story('v4: both namespaces come back on one connection', ON, async ({ server, connect }) => {
  const root = await connect();
  const chat = root.io.socket('/chat');
  try {
    await connected(chat);
    const ids = [root.id, chat.id];
    const bob = await connect();
    await ask(root, 'join-room', { roomName: 'r' });
    await ask(chat, 'join-room', { roomName: 'r' });
    await lose(root);
    await goneFor(bob, ids[0]);
    await ask(bob, 'message', { roomName: 'r', n: 1 });
    const both = Promise.all([back(root), back(chat)]);
    turn(root, server);
    root.connect();
    chat.connect();
    await both;
    assert.deepEqual([root.id, chat.id, root.recovered, chat.recovered], [...ids, true, true]);
    await next(root, 'message-reply', ({ n }) => n === 1);
  } finally {
    chat.close();
  }
});

story('v4: who left by itself, or was disconnected, is a new client', ON, async ({ server, connect }) => {
  const bob = await connect();
  const ann = await connect();
  await ask(ann, 'join-room', { roomName: 'r' });
  const before = ann.id;
  ann.disconnect();
  await goneFor(bob, before);
  await ask(bob, 'message', { roomName: 'r', n: 1 });
  let connects = back(ann);
  ann.connect();
  await connects;
  assert.equal(ann.recovered, false);
  assert.notEqual(ann.id, before);
  const kicked = disconnected(ann);
  const { id } = ann;
  assert.equal((await fetch(`${server.url}/connections/${id}`, { method: 'DELETE' })).status, 204);
  assert.equal(await kicked, 'io server disconnect');
  connects = back(ann);
  ann.connect();
  await connects;
  assert.equal(ann.recovered, false);
  assert.notEqual(ann.id, id);
  await several(ann, 'connected', 3);
  assert.deepEqual(numbers(ann), []);
});

story('v4: who missed too much is a new client', { ...ON, RECOVERY_LIMIT: '3' }, async ({ connect }) => {
  const bob = await connect();
  const ann = await connect();
  // One on each node, where there are two.
  const others = [await connect(), await connect()];
  for (const socket of [ann, ...others]) await ask(socket, 'join-room', { roomName: 'r' });
  const { id } = ann;
  await lose(ann);
  await goneFor(bob, id);
  for (let n = 0; n < 4; n++) await ask(bob, 'message', { roomName: 'r', n });
  for (const other of others) await next(other, 'message-reply', ({ n }) => n === 3);
  const connects = back(ann);
  ann.connect();
  await connects;
  assert.equal(ann.recovered, false);
  assert.notEqual(ann.id, id);
  assert.equal((await ask(ann, 'join-room', { roomName: 'r', offset: 1 })).missed, 3);
});

story('v4: another user does not get the session', { ...ON, JWT_SECRET: SECRET }, async ({ connect }) => {
  const auth = { token: sign({ sub: 'ann' }) };
  const bob = await connect({ auth: { token: sign({ sub: 'bob' }) } });
  const ann = await connect({ auth });
  const { id } = ann;
  await lose(ann);
  await goneFor(bob, id);
  assert.equal((await ask(bob, 'private-message', { targetUserId: 'ann', message: 'hello' })).queued, true);
  ann.auth = { token: sign({ sub: 'eve' }) };
  const connects = back(ann);
  ann.connect();
  await connects;
  assert.equal(ann.recovered, false);
  assert.notEqual(ann.id, id);
  assert.equal(arrived(ann, 'private-message').length, 0);
});

story('v4: without the setting nothing is recovered', async ({ connect }) => {
  const bob = await connect();
  const ann = await connect();
  const { id } = ann;
  await lose(ann);
  await goneFor(bob, id);
  const connects = back(ann);
  ann.connect();
  await connects;
  assert.equal(ann.recovered, undefined);
  assert.notEqual(ann.id, id);
});
