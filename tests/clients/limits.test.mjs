// What real clients see of the limits: on connections, on authentications, on events.
import assert from 'node:assert/strict';
import { ask, connected, disconnected, next } from './client.mjs';
import { within } from './server.mjs';
import { story } from './story.mjs';

/** What a connect_error tells; to be taken at once, since the client then empties its request. */
const told = ({ message, description, context }) => ({ message, description, text: context?.responseText });

/** What the client's next connect_error tells. */
const refused = (socket) =>
  within(new Promise((done) => socket.once('connect_error', (error) => done(told(error)))), 'a connect_error');

const kinds = [
  { version: 4, transports: ['polling'], text: 'xhr poll error' },
  { version: 4, transports: ['websocket'], text: 'websocket error' },
  { version: 3, transports: ['polling'], text: 'xhr poll error' },
  { version: 3, transports: ['websocket'], text: 'websocket error' },
  { version: 2, transports: ['polling'], text: 'xhr poll error' },
  { version: 2, transports: ['websocket'], text: 'websocket error' },
  { version: 1, transports: ['websocket'], text: 'websocket error' },
];

for (const [limit, status, words] of [
  ['MAX_CONNECTIONS', 503, 'reached its limit of connections'],
  ['MAX_CONNECTIONS_PER_IP', 429, 'too many connections from this address'],
]) {
  story(`${limit}: what every generation is told`, { [limit]: '1' }, async ({ open, connect }) => {
    await connect();
    for (const { text, ...kind } of kinds) {
      const error = await refused(open(kind));
      assert.equal(error.message, text, JSON.stringify(kind));
      if (kind.transports[0] === 'polling') assert.equal(error.description, status);
      if (kind.transports[0] === 'polling' && kind.version === 4) {
        const body = JSON.parse(error.text);
        assert.equal(body.statusCode, status);
        assert.ok(body.message.includes(words), body.message);
      }
    }
  });

  for (const version of [4, 3, 2]) {
    story(`${limit}: who is refused comes in by itself when there is room (v${version})`, { [limit]: '1' }, async ({ open, connect }) => {
      const first = await connect();
      const second = open({ version, reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 });
      await refused(second);
      first.close();
      // An attempt that was under way is refused once more.
      await within(new Promise((done) => second.once('connect', done)), 'its connection');
      assert.equal((await ask(second, 'join-room', { roomName: 'r' })).success, true);
    });
  }
}

story('RATE_LIMIT_CONNECTIONS: a crowd comes in one after another', { RATE_LIMIT_CONNECTIONS: '5' }, async ({ open }) => {
  const errors = [];
  const crowd = Array.from({ length: 15 }, () => {
    const socket = open({ transports: ['polling'], reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 100 });
    socket.on('connect_error', (error) => errors.push(told(error)));
    return socket;
  });
  for (const socket of crowd) {
    if (!socket.connected) await within(new Promise((done) => socket.once('connect', done)), 'its connection');
  }
  assert.ok(errors.length > 0, 'nobody was refused');
  for (const error of errors) {
    assert.equal(error.message, 'xhr poll error');
    assert.equal(error.description, 429);
    assert.ok(JSON.parse(error.text).message.startsWith('too many new connections a second'));
  }
});

const secret = { JWT_SECRET: 'a secret of tests that is long enough to be one' };

story('RATE_LIMIT_AUTH: who guesses is told to wait', { ...secret, RATE_LIMIT_AUTH: '2' }, async ({ open }) => {
  for (let guess = 0; guess < 3; guess += 1) {
    assert.match((await refused(open({ auth: { token: 'made.up.token' } }))).message, /^token/);
  }
  for (const version of [4, 3]) {
    const error = await refused(open({ version, auth: { token: 'made.up.token' } }));
    assert.match(error.message, /^too many failed authentications; try again in \d+ s$/);
  }
  const old = open({ version: 2, query: { token: 'made.up.token' } });
  const error = await within(new Promise((done) => old.once('error', done)), 'an error');
  assert.match(error.message ?? error, /^too many failed authentications; try again in \d+ s$/);
});

for (const version of [4, 2]) {
  story(
    `RATE_LIMIT_EVENTS: a client that floods is told why it is disconnected (v${version})`,
    { RATE_LIMIT_EVENTS: '1', RATE_LIMIT_BURST: '5' },
    async ({ connect }) => {
      const socket = await connect({ version });
      const acks = [];
      for (let n = 0; n < 5; n += 1) acks.push(await ask(socket, 'message', { roomName: 'r', n }));
      assert.ok(acks.every((ack) => ack.success));
      const gone = disconnected(socket);
      for (let n = 0; n < 100; n += 1) socket.emit('message', { roomName: 'r', n });
      const first = await next(socket, 'error');
      assert.equal(first.code, 'rate_limited');
      assert.ok(first.retryAfterMs > 0 && first.retryAfterMs <= 1000, JSON.stringify(first));
      const last = await next(socket, 'error', ({ message }) => message.includes('disconnected'));
      assert.equal(last.code, 'rate_limited');
      // What it sends after the end closes the transport under it.
      assert.ok(['io server disconnect', 'transport close'].includes(await gone));
      // It may come back, on a connection of its own.
      socket.connect();
      await connected(socket);
      assert.equal((await ask(socket, 'message', { roomName: 'r' })).success, true);
    },
  );
}
