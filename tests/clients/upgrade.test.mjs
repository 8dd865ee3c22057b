// Real clients behind proxies that spoil the websocket: they stay on polling and miss nothing.
import assert from 'node:assert/strict';
import http from 'node:http';
import { Server } from 'socket.io';
import { ask, connected, next, several, withoutOffset } from './client.mjs';
import { startProxy } from './proxy.mjs';
import { emitted, within } from './server.mjs';
import { story } from './story.mjs';

/** An upgrade may take as long as a client has to answer a ping. */
const env = { PING_TIMEOUT: '3s', RATE_LIMIT_EVENTS: '0' };

/** The server's pace of empty answers while a probe is answered, with some room for a timer's inaccuracy. */
const RELEASE_MS = 90;

for (const version of [4, 3, 2]) {
  for (const spoil of ['swallow', 'swallow answers', 'cut', 'cut the probe', 'strip the header']) {
    story(`v${version}, ${spoil}: the client stays on polling`, env, async ({ server, open, member }) => {
      const proxy = await startProxy(server, spoil);
      try {
        const began = Date.now();
        const socket = open({ version, transports: ['polling', 'websocket'] }, proxy);
        const { engine } = socket.io;
        const failed = emitted(engine, 'upgradeError');
        const ended = [];
        socket.on('disconnect', (reason) => ended.push(reason));
        await connected(socket);
        assert.equal((await ask(socket, 'join-room', { roomName: 'r' })).success, true);
        const other = await member('r');
        for (let n = 0; n < 20; n += 1) {
          const sent = { roomName: 'r', n, omitSender: false };
          const asked = ask(socket, 'message', sent);
          const told = ask(other, 'message', { ...sent, n: n + 0.5 });
          assert.equal((await asked).success, true);
          assert.equal((await told).success, true);
        }
        await failed;
        assert.equal(engine.transport.name, 'polling');
        // It goes on.
        assert.equal((await ask(socket, 'message', { roomName: 'r', n: 20, omitSender: false })).success, true);
        const heard = (await several(socket, 'message-reply', 41)).map((message) => message.n);
        assert.deepEqual(heard.toSorted((one, two) => one - two), Array.from({ length: 41 }, (_, n) => n / 2));
        assert.deepEqual(ended, []);
        assert.equal(proxy.websockets, 1);
        // A poll is answered when there is something, or else at a leisurely pace.
        const answers = 2 * 41 + 10 + (Date.now() - began) / RELEASE_MS;
        assert.ok(proxy.polls <= answers, `${proxy.polls} polls, at most ${answers} were due`);
      } finally {
        proxy.stop();
      }
    });
  }
}

for (const version of [4, 3, 2]) {
  story(`v${version}: an upgrade through a long way, under traffic`, env, async ({ server, open, member }) => {
    const proxy = await startProxy(server, 'nothing', { delay: 50 });
    try {
      const other = await member('r');
      const socket = open({ version, transports: ['polling', 'websocket'] }, proxy);
      await connected(socket);
      const upgraded = emitted(socket.io.engine, 'upgrade');
      assert.equal((await ask(socket, 'join-room', { roomName: 'r' })).success, true);
      let sent = 0;
      let done = false;
      const sending = (async () => {
        while (!done || sent < 50) {
          await ask(other, 'message', { roomName: 'r', n: sent });
          sent += 1;
        }
      })();
      await upgraded;
      done = true;
      await sending;
      const heard = await several(socket, 'message-reply', sent);
      assert.deepEqual(heard.map(withoutOffset), Array.from({ length: sent }, (_, n) => ({ roomName: 'r', n })));
      assert.equal(socket.io.engine.transport.name, 'websocket');
    } finally {
      proxy.stop();
    }
  });
}

for (const version of [4, 3]) {
  story(`v${version}: through a long way, the first poll connects`, async ({ server, open }) => {
    const proxy = await startProxy(server, 'nothing', { delay: 100 });
    try {
      const socket = open({ version, transports: ['polling'] }, proxy);
      await within(new Promise((done) => socket.once('connect', done)), 'a connection');
      // The handshake, and then at once a POST with the CONNECT packet and the poll that brings its answer.
      assert.deepEqual([proxy.posts, proxy.polls], [1, 1]);
      await next(socket, 'connected');
    } finally {
      proxy.stop();
    }
  });
}

/** How often the client has asked for something, and waited, when it is connected. */
const roundTrips = async (server, open, options) => {
  const proxy = await startProxy(server, 'nothing', { delay: 100 });
  try {
    const socket = open(options, proxy);
    await within(new Promise((done) => socket.once('connect', done)), 'a connection');
    return { polls: proxy.polls, posts: proxy.posts, websockets: proxy.websockets };
  } finally {
    proxy.stop();
  }
};

for (const version of [4, '4.6', 3, 2, 1]) {
  for (const transports of [['polling'], ['websocket'], ['polling', 'websocket']]) {
    story(`v${version}, ${transports}: through a long way, connecting takes no more round trips than with Node's server`, async ({
      server,
      open,
    }) => {
      const listener = http.createServer();
      const node = new Server(listener, { allowEIO3: true });
      try {
        await new Promise((done) => listener.listen(0, '127.0.0.1', done));
        const theirs = await roundTrips({ port: listener.address().port }, open, { version, transports });
        const ours = await roundTrips(server, open, { version, transports });
        for (const kind of Object.keys(theirs)) assert.ok(ours[kind] <= theirs[kind], JSON.stringify({ ours, theirs }));
      } finally {
        await node.close();
      }
    });
  }
}
