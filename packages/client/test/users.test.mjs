// Tokens are renewed, presence is known, and a client comes back from whatever ends its connection.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inSeconds, SECRET, sign } from '../../../tests/clients/token.mjs';
import { fetchToken } from '../dist/esm/token.js';
import { ask, log, range, state, story, within, write } from './world.mjs';

const AUTH = { JWT_SECRET: SECRET };

test('the lifetime of a token is the least that is said and possible', async () => {
  const lasts = async (claims, expiresIn) => {
    const token = sign({ sub: 'ann', ...claims });
    return (await fetchToken(() => (expiresIn === undefined ? token : { token, expiresIn }))).lastsMs;
  };
  const now = inSeconds(0);
  const about = async (found, seconds) => assert.ok(Math.abs((await found) - seconds * 1000) <= 3000, `${await found} ms, not ${seconds} s`);
  await about(lasts({ exp: now + 600 }), 600);
  await about(lasts({ exp: now + 600 }, 60), 60);
  await about(lasts({ exp: now + 30 }, 60), 30);
  // A slow clock, and a fast one.
  await about(lasts({ iat: now + 3600, exp: now + 4500 }), 900);
  await about(lasts({ iat: now - 4500, exp: now - 3600 }), 900);
  await about(lasts({ exp: now - 3600 }), 60);
  assert.equal((await fetchToken(() => 'opaque')).lastsMs, undefined);
  assert.equal((await fetchToken(() => ({ token: 'opaque', expiresIn: 60 }))).lastsMs, 60_000);
  await assert.rejects(fetchToken(() => ({ token: '' })), TypeError);
});

story('a token is renewed in time, and the connection stays', AUTH, async ({ client }) => {
  const tokens = log();
  const ann = client({
    token: () => {
      tokens.add('token');
      return Promise.resolve(sign({ sub: 'ann', exp: inSeconds(4) }));
    },
  });
  let lost = 0;
  ann.when('disconnected', () => lost++);
  const authenticated = log();
  ann.on('authenticated', ({ userId }) => authenticated.add(userId));
  const room = ann.join('r');
  await authenticated.until(2);
  await tokens.until(3);
  assert.equal((await room.send({ n: 1 })).success, true);
  assert.deepEqual([lost, ann.user], [0, 'ann']);
});

story('a token that expires ends the connection, and a new one brings it back', AUTH, async ({ client, plain }) => {
  const tokens = [sign({ sub: 'ann', exp: inSeconds(3) }), new Error('the issuer is away'), new Error('still'), sign({ sub: 'ann' })];
  const failures = log();
  const ann = client({
    // The renewal comes late on purpose.
    renewBefore: 1,
    token: () => {
      const next = tokens.length > 1 ? tokens.shift() : tokens[0];
      if (next instanceof Error) throw next;
      return next;
    },
  });
  ann.when('token-failed', ({ message }) => failures.add(message));
  const room = ann.join('r');
  const seen = log();
  room.on('message-reply', ({ n }) => seen.add(n));
  await room.joined;
  const writer = await plain({ auth: { token: sign({ sub: 'ben' }) } });
  await write(writer, 'r', 1, 2);
  await state(ann, 'disconnected');
  await write(writer, 'r', 3, 4);
  await state(room, 'joined');
  await write(writer, 'r', 5, 5);
  await seen.until(5);
  assert.deepEqual(seen.entries, range(1, 5));
  assert.deepEqual(failures.entries, ['the issuer is away', 'still']);
});

story('a refused connection is tried again with another token', AUTH, async ({ client }) => {
  const refusals = log();
  const tokens = ['nonsense', sign({ sub: 'ann', exp: inSeconds(-10) }), sign({ sub: 'ann' })];
  const ann = client({ token: () => tokens.shift() });
  ann.when('refused', ({ code }) => refusals.add(code));
  await state(ann, 'connected');
  assert.deepEqual(refusals.entries, ['unauthorized', 'unauthorized']);
});

story('a namespace that does not exist is not asked for again', async ({ client, net }) => {
  net.url += '/nowhere';
  const lost = client();
  assert.equal((await state(lost, 'refused')).code, 'not_found');
  assert.equal(lost.socket.active, false);
});

story('a token of less rights takes rooms away, and one of more brings back what was refused', AUTH, async ({ client }) => {
  let rooms = ['a', 'b'];
  const ann = client({ token: () => sign({ sub: 'ann', rooms, exp: inSeconds(4) }) });
  const [a, b, c] = ['a', 'b', 'c'].map((name) => ann.join(name));
  const refused = state(c, 'refused');
  await Promise.all([a.joined, b.joined]);
  assert.equal((await refused).code, 'forbidden');
  rooms = ['a', 'c'];
  await Promise.all([state(b, 'left'), state(c, 'joined')]);
  assert.equal((await c.send({ n: 1 })).success, true);
});

story('who may join and not read gets live messages, and is told what it cannot have', AUTH, async ({ client, plain, net }) => {
  const ann = client({ token: () => sign({ sub: 'ann', rooms: { join: ['r'], read: [], send: [] } }) });
  const room = ann.join('r');
  const seen = log();
  room.on('message-reply', ({ n }) => seen.add(n));
  room.when('gap', (gap) => seen.add(gap));
  await room.joined;
  const writer = await plain({ auth: { token: sign({ sub: 'ben' }) } });
  await write(writer, 'r', 1, 2);
  await seen.until(2);
  net.cut();
  await state(ann, 'disconnected');
  await write(writer, 'r', 3, 6);
  const joined = state(room, 'joined');
  net.restore();
  assert.equal((await joined).complete, false);
  await write(writer, 'r', 7, 7);
  await seen.until(4);
  assert.deepEqual(seen.entries, [1, 2, { from: 3, to: 6, reason: 'forbidden' }, 7]);
});

story('a client that a backend disconnects comes back to its rooms', { NODE_ENV: 'development' }, async ({ client, plain, server }) => {
  const ann = client();
  const room = ann.join('r');
  const seen = log();
  room.on('message-reply', ({ n }) => seen.add(n));
  await room.joined;
  const disconnected = state(ann, 'disconnected');
  const joined = state(room, 'joined');
  assert.equal((await fetch(`${server.url}/connections/${ann.clientId}`, { method: 'DELETE' })).status, 204);
  assert.equal((await disconnected).reason, 'io server disconnect');
  await write(await plain(), 'r', 1, 2);
  await joined;
  await seen.until(2);
  assert.deepEqual(seen.entries, [1, 2]);
});

story('presence is heard, kept, and forgotten with the connection', { PRESENCE_GRACE: '50ms' }, async ({ client, net }) => {
  const ann = client({ user: 'ann' });
  await state(ann, 'connected');
  const changes = log();
  ann.when('presence', (user, { status }) => user === 'bob' && changes.add(status));
  const bob = client({ user: 'bob' });
  await changes.until(1);
  await bob.setStatus('busy');
  await changes.until(2);
  assert.equal(ann.presence.of('bob').status, 'busy');
  assert.ok(ann.presence.online().includes('bob'));
  // The status is Bob's also on his next connection.
  const reset = state(ann, 'presence-reset');
  net.drop();
  await reset;
  await changes.until((all) => all.at(-1) === 'busy' && all.length > 2);
  bob.close();
  await changes.until((all) => all.at(-1) === 'offline');
  assert.deepEqual(ann.presence.of('bob').status, 'offline');
});

story('rooms tell who types and who has read', async ({ client }) => {
  const [ann, bob] = [client({ user: 'ann', clientName: 'Ann' }), client({ user: 'bob' })];
  const [here, there] = [ann.join('r'), bob.join('r')];
  await Promise.all([here.joined, there.joined]);
  const heard = log();
  there.on('userTyping', ({ clientName, isTyping }) => heard.add([clientName, isTyping]));
  here.on('messageRead', ({ userId, messageId }) => heard.add([userId, messageId]));
  there.on('cursor', ({ x }) => heard.add(x));
  assert.equal((await here.typing(true)).success, true);
  await heard.until(1);
  const { id } = await here.say('hello');
  assert.deepEqual(await there.read(id), { success: true, recorded: true });
  await heard.until(2);
  await here.signal('cursor', { roomName: 'r', x: 3 });
  await heard.until(3);
  assert.deepEqual(heard.entries, [['Ann', true], ['bob', id], 3]);
});

story('requests fail when the connection breaks, and signals do not disturb anybody', async ({ client, net }) => {
  const ann = client({ user: 'ann' });
  const room = ann.join('r');
  await room.joined;
  net.isDeaf = true;
  const request = ann.request('ping', {});
  net.drop();
  await assert.rejects(within(request, 'a rejection'), { code: 'disconnected' });
  // Nobody waits for these: their rejection is no uncaught error.
  void room.typing(true);
  void ann.setStatus('away');
  await assert.rejects(ann.request('no-such-event', {}), { code: 'disconnected' });
  net.isDeaf = false;
  await state(ann, 'connected');
  await assert.rejects(ann.request('no-such-event', {}), { code: 'unknown_event' });
});

story('a listener that fails does not keep the others from their message', async ({ client, plain }) => {
  const ann = client();
  const room = ann.join('r');
  const seen = log();
  const uncaught = log();
  const before = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', ({ message }) => uncaught.add(message));
  try {
    room.on('message-reply', () => {
      throw new Error('of the application');
    });
    const off = room.on('message-reply', ({ n }) => seen.add(n));
    await room.joined;
    const writer = await plain();
    await write(writer, 'r', 1, 2);
    await Promise.all([seen.until(2), uncaught.until(2)]);
    off();
    ann.on('message-reply', ({ n }) => uncaught.add(n));
    await write(writer, 'r', 3, 3);
    await uncaught.until(4);
    assert.deepEqual(seen.entries, [1, 2]);
    assert.equal((await ask(writer, 'ping', {})).success, true);
  } finally {
    process.removeAllListeners('uncaughtException');
    for (const listener of before) process.on('uncaughtException', listener);
  }
});
