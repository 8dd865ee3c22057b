// The protocol of @socket.io/admin-ui 0.5, as an operator's page speaks it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PASSWORD, USERNAME, against, ask, assertTimestamp, heard } from './stage.mjs';

const DEVELOPMENT = { NODE_ENV: 'development', LOG_LEVEL: 'info' };
const ALWAYS = ['EMIT', 'JOIN', 'LEAVE', 'DISCONNECT', 'MJOIN', 'MLEAVE', 'MDISCONNECT', 'AGGREGATED_EVENTS'];
const JWT = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl';

test('only the user name with its password, or a session of them, opens the namespace', async () => {
  await against({}, async ({ enter }) => {
    const refused = { message: 'invalid credentials' };
    await assert.rejects(enter({}), refused);
    await assert.rejects(enter({ username: USERNAME, password: 'wrong' }), refused);
    await assert.rejects(enter({ username: 'Operator', password: PASSWORD }), refused);
    await assert.rejects(enter({ sessionId: 'guessed' }), refused);

    const first = await enter();
    const [session] = await heard(first, 'session');
    const again = await enter({ sessionId: session });
    await heard(again, 'config');
    assert.ok(!again.heard.some(({ event }) => event === 'session'), 'who has a session gets no other');
  });
});

test('in production operators see counts, and nothing else', async () => {
  await against({}, async ({ server, connect, enter }) => {
    const client = await connect('/chat');
    const operator = await enter();
    const [config] = await heard(operator, 'config');
    assert.deepEqual(config, { supportedFeatures: ALWAYS });
    const [stats] = await heard(operator, 'server_stats');
    assert.equal(stats.clientsCount, 1);
    assert.equal(stats.pollingClientsCount + 1, [1, 2][stats.pollingClientsCount]);
    assert.deepEqual(stats.namespaces, [
      { name: '/', socketsCount: 0 },
      { name: '/chat', socketsCount: 1 },
      { name: '/admin', socketsCount: 1 },
    ]);
    assert.ok(stats.serverId.includes(stats.hostname) && stats.pid > 0 && stats.uptime > 0, JSON.stringify(stats));
    assert.deepEqual(stats.aggregatedEvents, []);

    await ask(client, 'join-room', { roomName: 'kitchen' });
    const late = await connect();
    late.close();
    const types = (stats) => stats.aggregatedEvents.map(({ type }) => type);
    const [counted] = await heard(operator, 'server_stats', (stats) => types(stats).includes('packetsIn'));
    for (const type of ['packetsIn', 'bytesIn', 'packetsOut', 'bytesOut']) {
      assert.ok(counted.aggregatedEvents.find((event) => event.type === type)?.count > 0, `${type} in ${types(counted)}`);
    }
    await heard(operator, 'server_stats', (stats) =>
      stats.aggregatedEvents.some((event) => event.type === 'rawDisconnection' && event.subType),
    );
    const seen = new Set(operator.heard.map(({ event }) => event));
    assert.deepEqual([...seen].sort(), ['config', 'server_stats', 'session']);
    assert.ok(!JSON.stringify(operator.heard).includes(client.id), 'no client is named');
    assert.ok(!server.tail().includes(PASSWORD));
  });
});

test('in development operators see clients, rooms and events, without what is secret', async () => {
  await against(DEVELOPMENT, async ({ connect, enter }) => {
    const early = await connect('/', {
      auth: { clientName: 'Ada', token: 'hunter2' },
      query: { token: 'hunter2', page: '7' },
      extraHeaders: { Authorization: 'Bearer hunter2', Cookie: 'sid=hunter2', 'X-Client-Name': 'yes' },
    });
    await ask(early, 'join-room', { roomName: 'kitchen' });
    const operator = await enter();
    const [config] = await heard(operator, 'config');
    assert.deepEqual(config, { supportedFeatures: [...ALWAYS, 'ALL_EVENTS'] });

    const [all] = await heard(operator, 'all_sockets');
    assert.equal(all.length, 1);
    const [ada] = all;
    assert.deepEqual([ada.id, ada.nsp], [early.id, '/']);
    assert.match(ada.clientId, /^connection-\d+$/);
    assert.deepEqual(ada.rooms, [early.id, 'kitchen']);
    assert.deepEqual(ada.data, { clientName: 'Ada', userId: null, protocol: 4 });
    const { handshake } = ada;
    assert.equal(handshake.address, '127.0.0.1');
    assert.equal(handshake.headers['x-client-name'], 'yes');
    assert.equal(handshake.headers.authorization, '[redacted]');
    // Cookies are not kept at all.
    assert.equal(handshake.headers.cookie, undefined);
    assert.equal(handshake.query.page, '7');
    assert.equal(handshake.query.token, '[redacted]');
    assertTimestamp(handshake.time);

    const bob = await connect('/', { auth: { clientName: 'Bob' } });
    const bobsId = bob.id; // A socket that is closed has none.
    const [shown, when] = await heard(operator, 'socket_connected', (socket) => socket.id === bob.id);
    assert.equal(shown.data.clientName, 'Bob');
    assertTimestamp(when);

    await ask(bob, 'authenticate', { userId: 'bob', token: JWT });
    const [, , received] = await heard(operator, 'event_received', (nsp, id, [name]) => name === 'authenticate');
    assert.deepEqual(received, ['authenticate', { userId: 'bob', token: '[redacted]' }]);
    await heard(operator, 'event_sent', (nsp, id, [name]) => id === bob.id && name === 'authenticated');
    await heard(operator, 'socket_updated', (socket) => socket.id === bob.id && socket.data?.userId === 'bob');

    await ask(bob, 'join-room', { roomName: 'kitchen' });
    const joined = await heard(operator, 'room_joined', (nsp, room, id) => id === bob.id);
    assert.deepEqual(joined.slice(0, 3), ['/', 'kitchen', bob.id]);
    const text = 'x'.repeat(20_000);
    await ask(bob, 'message', { roomName: 'kitchen', text });
    const [, , large] = await heard(operator, 'event_received', (nsp, id, [name]) => name === 'message');
    assert.match(large[1], /^\(\d+ bytes: too many to be shown\)$/);

    bob.close();
    const gone = await heard(operator, 'socket_disconnected', (nsp, id) => id === bobsId);
    assert.deepEqual([gone[0], gone[2]], ['/', 'client namespace disconnect']);
    await heard(operator, 'room_left', (nsp, room, id) => id === bobsId && room === 'kitchen');
    const everything = JSON.stringify(operator.heard);
    assert.ok(!everything.includes('hunter2') && !everything.includes('eyJ'), 'a secret is shown');

    const second = await enter();
    const [now] = await heard(second, 'all_sockets');
    assert.deepEqual(now.map(({ id }) => id), [early.id]);
  });
});

test('what operators do reaches the clients as if they had done it', async () => {
  await against(DEVELOPMENT, async ({ connect, enter }) => {
    const [ada, bob, other] = [await connect(), await connect(), await connect('/chat')];
    const [adasId, bobsId] = [ada.id, bob.id]; // A socket that is closed has none.
    const operator = await enter();
    // What happens from now on is told.
    await heard(operator, 'all_sockets');
    const done = (clients) => ({ success: true, clients });

    assert.deepEqual(await ask(operator, 'join', '/', 'kitchen', adasId), done(1));
    const [entered] = await heard(ada, 'room-joined');
    assert.equal(entered.roomName, 'kitchen');
    await heard(operator, 'room_joined', (nsp, room, id) => room === 'kitchen' && id === adasId);

    assert.deepEqual(await ask(operator, 'join', '/', 'kitchen', null), done(2));
    const [came] = await heard(ada, 'user-joined');
    assert.equal(came.socketId, bobsId);

    assert.deepEqual(await ask(operator, 'emit', '/', 'kitchen', 'notice', { text: 'closing' }), done(2));
    for (const socket of [ada, bob]) assert.deepEqual(await heard(socket, 'notice'), [{ text: 'closing' }]);
    assert.deepEqual(await ask(operator, 'emit', '/chat', null, 'notice', Buffer.from('bytes')), done(1));
    const [bytes] = await heard(other, 'notice');
    assert.equal(Buffer.from(bytes).toString(), 'bytes');

    assert.deepEqual(await ask(operator, 'leave', '/', 'kitchen', adasId), done(1));
    const [left] = await heard(ada, 'room-left');
    assert.equal(left.roomName, 'kitchen');
    await heard(bob, 'user-left', ({ socketId }) => socketId === adasId);

    assert.deepEqual(await ask(operator, '_disconnect', '/', false, 'kitchen'), done(1));
    await heard(operator, 'socket_disconnected', (nsp, id) => id === bobsId);
    assert.ok(ada.connected && other.connected);

    for (const [what, code, ...event] of [
      ['an unknown namespace', 'not_found', 'join', '/admin', 'kitchen', adasId],
      ['no room', 'invalid_payload', 'join', '/'],
      ['a room that none can be', 'invalid_payload', 'join', '/', 'a\u0000b', adasId],
      ["the server's own event", 'invalid_payload', 'emit', '/', null, 'room-joined', {}],
      ["Socket.IO's own event", 'invalid_payload', 'emit', '/', null, 'disconnect'],
      ['two arguments', 'invalid_payload', 'emit', '/', null, 'notice', 1, 2],
      ['an unknown event', 'unknown_event', 'join-room', { roomName: 'kitchen' }],
    ]) {
      const answer = await ask(operator, ...event);
      assert.deepEqual([answer.success, answer.code], [false, code], `${what}: ${JSON.stringify(answer)}`);
    }
    assert.deepEqual(await ask(operator, '_disconnect', '/', false, 'nobody'), done(0));
  });
});
