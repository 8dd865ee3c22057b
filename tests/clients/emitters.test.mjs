// Socket.IO's own Redis emitters, as they are on npm, before two nodes with real clients.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer as createNetServer } from 'node:net';
import { createServer } from 'node:http';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { Emitter } from '@socket.io/redis-emitter';
import { createAdapter } from '@socket.io/redis-streams-adapter';
import { createClient } from 'redis';
import { Server } from 'socket.io';
import oldEmitter from 'socket.io-emitter';
import { ask, connect, disconnected, next } from './client.mjs';
import { startServer, within } from './server.mjs';

/** A redis-server of its own; ends with `use`. */
async function withRedis(use) {
  const probe = createNetServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  await new Promise((done) => probe.close(done));
  const directory = await mkdtemp(join(tmpdir(), 'roomcast-redis-'));
  const options = ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', directory];
  const child = spawn('redis-server', options, { stdio: ['ignore', 'pipe', 'inherit'] });
  const killed = () => child.kill('SIGKILL');
  process.once('exit', killed);
  try {
    const failed = once(child, 'error').then(([error]) => {
      throw new Error(`redis-server must be installed for this story: ${error.message}`);
    });
    const ready = new Promise((done) => {
      createInterface({ input: child.stdout }).on('line', (line) => line.includes('Ready to accept') && done());
    });
    await within(Promise.race([ready, failed]), 'redis-server');
    await use(port);
  } finally {
    process.removeListener('exit', killed);
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
    await rm(directory, { recursive: true, force: true });
  }
}

/**
 * Tells a story of two nodes that hear emitters: `tell` gets `{port, client, connect, member}`, of which `client` is
 * connected to their Redis, and clients come to one node after the other.
 */
function story(name, tell) {
  test(name, async (t) => {
    await withRedis(async (port) => {
      const env = {
        REDIS_URL: `redis://127.0.0.1:${port}`,
        REDIS_PREFIX: randomUUID(),
        EMITTER_PREFIX: 'socket.io',
        NODE_ENV: 'development',
        ANNOUNCE_CONNECTIONS: 'false',
      };
      const nodes = [await startServer(env), await startServer(env)];
      const client = createClient({ url: env.REDIS_URL });
      const sockets = [];
      let turn = 0;
      const world = {
        port,
        client,
        nodes,
        async connect(options) {
          const socket = await connect(nodes[turn++ % 2], options);
          sockets.push(socket);
          return socket;
        },
        async member(roomName, options) {
          const socket = await world.connect(options);
          assert.equal((await ask(socket, 'join-room', { roomName })).success, true);
          return socket;
        },
      };
      let failure;
      try {
        await client.connect();
        await tell(world);
      } catch (error) {
        failure = error;
        nodes.forEach((node) => t.diagnostic(`a node's log ended with:\n${node.tail()}`));
      }
      sockets.forEach((socket) => socket.close());
      await client.close();
      const stopped = await Promise.allSettled(nodes.map((node) => node.stop()));
      if (failure) throw failure;
      for (const { status, reason } of stopped) if (status === 'rejected') throw reason;
    });
  });
}

/** All events of the socket from now on, but for what the server says by itself. */
function record(socket) {
  const seen = [];
  socket.onAny((...args) => seen.push(args));
  return seen;
}

story('@socket.io/redis-emitter: rooms, except, volatile, namespaces, and binary data', async ({ client, nodes, connect, member }) => {
  const io = new Emitter(client);
  const ann = await member('a');
  const ben = await member('b');
  const chat = await connect({ namespace: '/chat' });
  assert.equal((await ask(chat, 'join-room', { roomName: 'a' })).success, true);
  const [ofAnn, ofBen, ofChat] = [ann, ben, chat].map(record);

  io.to('a').emit('object', { n: 1, when: new Date(7), gone: undefined, list: [undefined, NaN, 1.5, -3, 2 ** 40] });
  const object = { n: 1, when: '1970-01-01T00:00:00.007Z', list: [null, null, 1.5, -3, 2 ** 40] };
  assert.deepEqual(await next(ann, 'object'), { ...object, offset: 1 });
  io.to(['a', 'b']).emit('object', { n: 2 });
  assert.deepEqual(await next(ann, 'object'), { n: 2, offset: 2 });
  assert.deepEqual(await next(ben, 'object'), { n: 2, offset: 1 });
  io.to('a').to('b').except('b').emit('text', 'as it is');
  assert.equal(await next(ann, 'text'), 'as it is');
  io.except(ann.id).emit('all', 1);
  assert.equal(await next(ben, 'all'), 1);
  io.volatile.to('a').emit('light', { n: 3 });
  assert.deepEqual(await next(ann, 'light'), { n: 3 });
  io.of('/chat').to('a').emit('object', { n: 4 });
  assert.deepEqual(await next(chat, 'object'), { n: 4, offset: 1 });
  io.of('chat').emit('all', 2);
  assert.equal(await next(chat, 'all'), 2);
  io.to(ben.id).emit('you', { n: 5 });
  assert.deepEqual(await next(ben, 'you'), { n: 5 });
  io.to('b').emit('file', { name: 'x', bytes: Buffer.from([0, 255, 7]) });
  const file = await next(ben, 'file');
  assert.deepEqual([file.name, [...file.bytes], file.offset], ['x', [0, 255, 7], 2]);
  io.to('a').emit('many', 1, 'two', { three: Buffer.from([3]) });
  io.serverSideEmit('ignored', 1);
  io.to('a').to('b').emit('end');
  await next(ann, 'end');
  await next(ben, 'end');

  const names = (seen) => seen.map(([name]) => name);
  assert.deepEqual(names(ofAnn), ['object', 'object', 'text', 'light', 'many', 'end']);
  assert.deepEqual(names(ofBen), ['object', 'all', 'you', 'file', 'end']);
  assert.deepEqual(names(ofChat), ['object', 'all']);
  const [, one, two, { three }] = ofAnn[4];
  assert.deepEqual([one, two, [...three]], [1, 'two', [3]]);
  assert.deepEqual(ofAnn[5], ['end']);

  // It is a room message: whoever comes later finds it.
  const { items } = await (await fetch(`${nodes[1].url}/rooms/a/messages`)).json();
  assert.deepEqual(items.map(({ event, offset, data: { n } }) => [event, offset, n]), [['object', 1, 1], ['object', 2, 2]]);
});

story('@socket.io/redis-emitter: socketsJoin, socketsLeave, disconnectSockets', async ({ client, connect }) => {
  const io = new Emitter(client);
  const ann = await connect();
  const ben = await connect();
  const cora = await connect();
  io.in([ann.id, ben.id]).socketsJoin(['r', 's']);
  io.to('r').emit('welcome', {});
  for (const socket of [ann, ben]) {
    assert.equal((await next(socket, 'room-joined')).roomName, 'r');
    assert.equal((await next(socket, 'room-joined')).roomName, 's');
    assert.equal((await next(socket, 'welcome')).offset, 1);
  }
  io.in('r').except(ann.id).socketsLeave('s');
  assert.equal((await next(ben, 'room-left')).roomName, 's');
  const gone = [disconnected(ben), disconnected(cora)];
  io.except('s').disconnectSockets();
  assert.deepEqual(await Promise.all(gone), ['io server disconnect', 'io server disconnect']);
  assert.equal(ann.connected, true);
  io.disconnectSockets(true);
  assert.equal(await disconnected(ann), 'io server disconnect');
});

for (const version of [1, 2, 3]) {
  story(`@socket.io/redis-emitter reaches socket.io-client ${version}`, async ({ client, member }) => {
    const io = new Emitter(client);
    const socket = await member('a', { version });
    io.to('a').emit('news', { bytes: Buffer.from([1, 2]) });
    const { bytes, offset } = await next(socket, 'news');
    assert.deepEqual([[...bytes], offset], [[1, 2], 1]);
    io.to(socket.id).emit('you', 7);
    assert.equal(await next(socket, 'you'), 7);
  });
}

story('socket.io-emitter, the older one', async ({ port, member }) => {
  const io = oldEmitter({ host: '127.0.0.1', port });
  try {
    const ann = await member('a');
    const ben = await member('b');
    io.to('a').emit('news', { when: new Date(7), gone: undefined, bytes: Buffer.from([9]) });
    const news = await next(ann, 'news');
    assert.deepEqual([news.when, [...news.bytes], news.offset], ['1970-01-01T00:00:00.007Z', [9], 1]);
    io.to('a').in('b').emit('both', { n: 1 });
    assert.deepEqual(await next(ann, 'both'), { n: 1, offset: 2 });
    assert.deepEqual(await next(ben, 'both'), { n: 1, offset: 1 });
    io.of('/').volatile.emit('all', 1);
    await next(ben, 'all');
  } finally {
    io.redis.end(true);
  }
});

// There is no package of the streams emitter here: Node's server writes the same entries by its adapter.
story('what @socket.io/redis-streams-adapter adds to its stream', async ({ client, connect, member }) => {
  const http = createServer();
  const io = new Server(http, { adapter: createAdapter(client, { heartbeatInterval: 200 }) });
  try {
    const ann = await member('a');
    const ben = await member('b');
    const chat = await connect({ namespace: '/chat' });
    io.to('a').emit('news', { n: 1 });
    assert.deepEqual(await next(ann, 'news'), { n: 1, offset: 1 });
    io.to(['a', 'b']).except('b').emit('file', { bytes: Buffer.from([0, 255]) });
    const file = await next(ann, 'file');
    assert.deepEqual([[...file.bytes], file.offset], [[0, 255], 2]);
    io.of('/chat').emit('all', 'hello');
    assert.equal(await next(chat, 'all'), 'hello');
    io.volatile.to('b').emit('light', { n: 2 });
    assert.deepEqual(await next(ben, 'light'), { n: 2 });
    io.in(ben.id).socketsJoin('a');
    await next(ben, 'room-joined', ({ roomName }) => roomName === 'a');
    io.to('a').emit('news', { n: 3 });
    assert.deepEqual(await next(ben, 'news'), { n: 3, offset: 3 });
    io.in('b').socketsLeave('a');
    assert.equal((await next(ben, 'room-left')).roomName, 'a');
    io.in('a').disconnectSockets();
    assert.equal(await disconnected(ann), 'io server disconnect');
    assert.equal(ben.connected, true);
  } finally {
    await io.close();
  }
});
