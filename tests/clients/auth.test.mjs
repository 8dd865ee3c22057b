// Tokens: how they come in, what they permit, how they are renewed; and users with several clients.
import assert from 'node:assert/strict';
import { arrived, ask, connect as connectTo, disconnected, next, untaken, withoutOffset } from './client.mjs';
import { assertFields, assertTimestamp, story } from './story.mjs';
import { inSeconds, SECRET, sign, unsigned } from './token.mjs';

const AUTH = { JWT_SECRET: SECRET };

/** Connection options of a client of this user. */
const as = (sub, more = {}) => ({ auth: { token: sign({ sub, name: sub, ...more }) } });

story('a token comes by auth, by query or by header', AUTH, async ({ connect }) => {
  const token = (sub) => sign({ sub, name: `name of ${sub}` });
  const ways = {
    auth4: { version: 4, auth: { token: token('auth4') } },
    auth3: { version: 3, auth: { token: token('auth3') } },
    query4: { version: 4, query: { token: token('query4') } },
    query2: { version: 2, query: { token: token('query2') } },
    polling2: { version: 2, transports: ['polling'], query: { token: token('polling2') } },
    header4: { version: 4, extraHeaders: { Authorization: `Bearer ${token('header4')}` } },
    header3: { version: 3, transports: ['polling'], extraHeaders: { Authorization: `Bearer ${token('header3')}` } },
    header2: { version: 2, extraHeaders: { Authorization: `Bearer ${token('header2')}` } },
  };
  const witness = await connect(as('witness'));
  await ask(witness, 'join-room', 'r');
  for (const [user, options] of Object.entries(ways)) {
    const socket = await connect(options);
    const ack = await ask(socket, 'join-room', 'r');
    assertFields(ack, { success: true, roomName: 'r', clientName: `name of ${user}` }, []);
    assertFields(await next(witness, 'user-joined'), { userId: user, clientName: `name of ${user}`, room: 'r' });
  }
  // Of several tokens the one in auth counts; `id` stands in for a missing `sub`.
  const several = await connect({
    auth: { token: sign({ id: 'by id' }) },
    query: { token: token('by query') },
    extraHeaders: { Authorization: `Bearer ${token('by header')}` },
  });
  await ask(several, 'join-room', 'r');
  assertFields(await next(witness, 'user-joined'), { userId: 'by id' });
});

story('a bad token is refused with a reason that does not repeat it', AUTH, async ({ server, connect }) => {
  const bad = {
    'no token': undefined,
    'no JWT': 'nonsense',
    'a wrong key': sign({ sub: 'ann' }, { secret: 'another secret, just as long as the right one' }),
    'an expired one': sign({ sub: 'ann', exp: inSeconds(-3600) }),
    'no signature': unsigned({ sub: 'ann' }),
    'no subject': sign({ name: 'ann' }),
  };
  for (const [what, token] of Object.entries(bad)) {
    const ways = [
      { version: 4, auth: token && { token } },
      { version: 3, transports: ['polling'], auth: token && { token } },
      { version: 2, query: token && { token } },
    ];
    for (const way of ways) {
      await assert.rejects(connectTo(server, way), ({ message }) => {
        assert.doesNotMatch(message, /^not within/, `${what}, v${way.version}: no refusal came`);
        assert.notEqual(message, '');
        assert.ok(!token || !message.includes(token), 'the reason repeats the token');
        return true;
      });
    }
  }
  const good = await connect(as('ann'));
  assert.equal((await ask(good, 'join-room', 'r')).success, true);
});

story('without AUTH_REQUIRED one may come without a token, never with a bad one', {
  ...AUTH,
  AUTH_REQUIRED: 'false',
}, async ({ server, connect }) => {
  const ann = await connect(as('ann'));
  await ask(ann, 'join-room', 'r');
  const anonymous = await connect();
  await ask(anonymous, 'join-room', 'r');
  assertFields(await next(ann, 'user-joined'), { userId: null, clientName: 'anonymous' });
  await assert.rejects(connectTo(server, { auth: { token: 'nonsense' } }), ({ message }) => !/^not within/.test(message));

  // It may tell who it is later; from then on it is that user's client.
  const ack = await ask(anonymous, 'authenticate', { userId: 'bob', token: sign({ sub: 'bob' }) });
  assertFields(ack, { success: true }, []);
  assertFields(await next(anonymous, 'authenticated'), {
    success: true,
    userId: 'bob',
    message: 'Successfully authenticated',
  });
  assertFields(await next(ann, 'user-online', ({ userId }) => userId === 'bob'), { userId: 'bob' });
  assert.equal((await ask(ann, 'private-message', { targetUserId: 'bob', message: 'hi' })).delivered, true);
  assertFields(await next(anonymous, 'private-message'), { from: 'ann' });
});

story('the rooms of a token are the rooms it opens', AUTH, async ({ connect }) => {
  const free = await connect(as('free'));
  for (const room of ['team-a', 'secret', 'resource:7']) await ask(free, 'join-room', room);
  const bound = await connect(as('bound', { rooms: ['team-*', 'resource:7'] }));

  assertFields(await ask(bound, 'join-room', { roomName: 'team-a' }), { success: true, roomName: 'team-a' }, []);
  assertFields(await ask(bound, 'watch-resource', { resourceId: 7 }), { success: true, roomName: 'resource:7' }, []);
  assertFields(await ask(bound, 'joinRoom', { roomId: 'team-b' }), { success: true, roomName: 'team-b' }, []);
  assert.deepEqual(await next(bound, 'joinedRoom'), { roomId: 'team-b' });

  const forbidden = [
    ['join-room', { roomName: 'secret' }],
    ['join-room', 'my-team-a'],
    ['watch-resource', { resourceId: 8 }],
    ['joinRoom', { roomId: 'secret' }],
    ['message', { roomName: 'secret', message: 'x' }],
    ['channels', { roomName: 'secret' }],
    ['sendMessage', { roomId: 'secret', content: 'x' }],
    ['typingIndicator', { roomId: 'secret', isTyping: true }],
    ['readReceipt', { roomId: 'secret', messageId: 'm' }],
    ['syncMessages', { roomId: 'secret' }],
    ['custom-event', { event: 'dance', data: 1, room: 'secret' }],
    ['custom-event', { event: 'dance', data: 1 }],
    ['message', { text: 'to the whole namespace' }],
    ['message', 'to the whole namespace'],
  ];
  for (const [event, payload] of forbidden) {
    const ack = await ask(bound, event, payload);
    assert.deepEqual([ack.success, ack.code], [false, 'forbidden'], `${event} ${JSON.stringify(payload)}`);
    assertFields(await next(bound, 'error'), { code: 'forbidden', event, message: ack.message }, []);
  }

  const allowed = { roomName: 'team-a', message: 'x' };
  assert.equal((await ask(bound, 'message', allowed)).success, true);
  assert.deepEqual(withoutOffset(await next(free, 'message-reply')), allowed);
  const heard = untaken(free);
  for (const event of ['dance', 'message', 'newMessage', 'userTyping', 'resource-update', 'messageRead']) {
    assert.ok(!heard.includes(event), `"${event}" came through in spite of the refusal`);
  }
});

story('the chat with users: typing, receipts and presence', AUTH, async ({ connect }) => {
  const chat = (user) => ({ namespace: '/chat', query: { token: sign({ sub: user, name: user }) } });
  const ann = await connect(chat('ann'));
  const bob = await connect({ ...chat('bob'), version: 2 });
  assertFields(await next(ann, 'user-online', ({ userId }) => userId === 'bob'), { userId: 'bob' });
  for (const socket of [ann, bob]) {
    await ask(socket, 'joinRoom', { roomId: 'talk' });
    assert.deepEqual(await next(socket, 'joinedRoom'), { roomId: 'talk' });
  }

  const { id } = await ask(ann, 'sendMessage', { roomId: 'talk', content: 'hello', sender: 'root' });
  for (const socket of [ann, bob]) {
    assertFields(await next(socket, 'newMessage'), { id, sender: 'ann', clientId: ann.id, content: 'hello' });
  }
  bob.emit('typingIndicator', { roomId: 'talk', isTyping: true });
  assertFields(await next(ann, 'userTyping'), { userId: 'bob', clientName: 'bob', roomId: 'talk', isTyping: true });
  bob.emit('readReceipt', { roomId: 'talk', messageId: id });
  for (const socket of [ann, bob]) {
    assertFields(await next(socket, 'messageRead'), { messageId: id, userId: 'bob', roomId: 'talk' });
  }

  for (const status of ['away', 'busy', 'offline', 'online']) {
    assert.equal((await ask(bob, 'presenceUpdate', { status })).success, true);
    for (const socket of [ann, bob]) {
      assertFields(await next(socket, 'presenceUpdate'), { userId: 'bob', status }, ['lastActive']);
    }
  }
  const refused = await ask(bob, 'presenceUpdate', { status: 'dancing' });
  assertFields(refused, { success: false, code: 'invalid_payload' }, []);
});

story('a private message reaches all clients of its user, in every namespace', AUTH, async ({ connect }) => {
  const ann = await connect(as('ann'));
  const bobs = [
    await connect(as('bob')),
    await connect({ namespace: '/chat', version: 2, query: { token: sign({ sub: 'bob' }) } }),
  ];
  const cem = await connect(as('cem'));
  assert.equal(
    (await ask(ann, 'authenticate', { userId: 'ann', token: sign({ sub: 'ann' }) })).success,
    true,
  );
  assertFields(await next(ann, 'authenticated'), { success: true, userId: 'ann' });

  const ack = await ask(ann, 'private-message', { targetUserId: 'bob', message: { any: 'thing' }, messageType: 'image' });
  assertFields(ack, { success: true, delivered: true, queued: false }, []);
  assertFields(await next(ann, 'message-sent'), { target: 'bob', id: ack.id, delivered: true, queued: false });
  for (const bob of bobs) {
    const got = await next(bob, 'private-message');
    assertFields(got, { id: ack.id, from: 'ann', clientId: ann.id });
    assertFields(got.message, { content: { any: 'thing' }, type: 'image' });
  }

  // The other spelling; the type is text unless said otherwise. It is also the fence for Cem.
  const toCem = await ask(bobs[1], 'private-message', { target: 'cem', message: 'hello' });
  assertFields(toCem, { success: true, delivered: true, queued: false }, []);
  const got = await next(cem, 'private-message');
  assertFields(got, { id: toCem.id, from: 'bob' });
  assertFields(got.message, { content: 'hello', type: 'text' });
});

story('what was sent to an absent user waits for it, in order', AUTH, async ({ connect }) => {
  const ann = await connect(as('ann'));
  const ids = [];
  for (const message of ['first', 'second', 'third']) {
    const ack = await ask(ann, 'private-message', { targetUserId: 'bob', message });
    assertFields(ack, { success: true, delivered: false, queued: true }, []);
    assertFields(await next(ann, 'message-sent'), { target: 'bob', id: ack.id, delivered: false, queued: true });
    ids.push(ack.id);
  }
  const bob = await connect(as('bob'));
  for (const [index, content] of ['first', 'second', 'third'].entries()) {
    const got = await next(bob, 'private-message');
    assertFields(got, { id: ids[index], from: 'ann' });
    assert.equal(got.message.content, content);
  }
});

story('a user comes with its first client and goes with its last', { ...AUTH, PRESENCE_GRACE: '100ms' }, async ({
  connect,
}) => {
  const witness = await connect(as('witness'));
  const of = (user) => ({ userId, clientName }) => userId === user || clientName === user;
  const first = await connect(as('ann'));
  assertTimestamp((await next(witness, 'user-online', of('ann'))).timestamp);
  const second = await connect(as('ann'));
  await connect(as('bob'));
  await next(witness, 'user-online', of('bob'));
  assert.equal(arrived(witness, 'user-online').filter(of('ann')).length, 1, 'one user came online twice');

  first.close();
  await next(witness, 'client-disconnected', of('ann'));
  const cem = await connect(as('cem'));
  cem.close();
  // Cem left after Ann's first client did: had Ann gone offline, she would have done so before him.
  assert.equal((await next(witness, 'user-offline')).userId, 'cem');
  second.close();
  assertFields(await next(witness, 'presenceUpdate', ({ userId }) => userId === 'ann'), { status: 'offline' }, []);
  assertFields(await next(witness, 'user-offline'), { userId: 'ann' });
});

story('authenticate renews a client, but never makes it somebody else', AUTH, async ({ connect }) => {
  const ann = await connect(as('ann', { rooms: ['team-*'] }));
  const stranger = async (claim, code) => {
    assertFields(await ask(ann, 'authenticate', claim), { success: false, code }, []);
    assertFields(await next(ann, 'error'), { code, event: 'authenticate' }, []);
  };
  await stranger({ userId: 'bob', token: sign({ sub: 'bob' }) }, 'forbidden');
  await stranger({ userId: 'bob', token: sign({ sub: 'ann' }) }, 'forbidden');
  await stranger({ userId: 'ann', token: sign({ sub: 'bob' }) }, 'forbidden');
  await stranger({ userId: 'ann', token: 'nonsense' }, 'unauthorized');
  await stranger({ userId: 'ann', token: sign({ sub: 'ann', exp: inSeconds(-3600) }) }, 'unauthorized');

  // A refused claim changes nothing; a valid one brings its own permissions, and what they exclude is left.
  await ask(ann, 'join-room', { roomName: 'team-a' });
  await next(ann, 'room-joined');
  assertFields(await ask(ann, 'join-room', { roomName: 'club' }), { success: false, code: 'forbidden' }, []);
  const token = sign({ sub: 'ann', rooms: ['club'] });
  assert.equal((await ask(ann, 'authenticate', { userId: 'ann', token })).success, true);
  assertFields(await next(ann, 'room-left'), { roomName: 'team-a' });
  assertFields(await ask(ann, 'join-room', { roomName: 'club' }), { success: true }, []);
  assertFields(await ask(ann, 'join-room', { roomName: 'team-a' }), { success: false, code: 'forbidden' }, []);
});

story('an expired client is sent away unless it renewed', AUTH, async ({ connect }) => {
  const [soon, later] = [inSeconds(3), inSeconds(4)];
  const renewed = await connect(as('ann', { exp: soon }));
  assert.equal((await ask(renewed, 'authenticate', { userId: 'ann', token: sign({ sub: 'ann' }) })).success, true);
  const expiring = await connect(as('bob', { exp: later }));

  // Bob's end, which is due after what would have been Ann's, shows that hers has passed.
  const gone = disconnected(expiring);
  assert.equal(typeof (await next(expiring, 'token-expired')).message, 'string');
  await gone;
  assertFields(await ask(renewed, 'join-room', 'r'), { success: true, clientId: renewed.id }, []);
  assert.ok(!untaken(renewed).includes('token-expired'));
});

story('without a key the claim is believed', { PRESENCE_GRACE: '100ms' }, async ({ connect }) => {
  const [ann, bob] = [await connect(), await connect({ version: 2 })];
  assertFields(await ask(ann, 'authenticate', { userId: 'ann' }), { success: true }, []);
  assertFields(await next(ann, 'authenticated'), {
    success: true,
    userId: 'ann',
    message: 'Successfully authenticated',
  });
  assert.equal((await next(bob, 'user-online')).userId, 'ann');
  assert.equal((await ask(bob, 'authenticate', 'bob')).success, true);
  assertFields(await ask(bob, 'private-message', { targetUserId: 'ann', message: 'hi' }), { delivered: true }, []);
  assertFields(await next(ann, 'private-message'), { from: 'bob' });
  ann.close();
  assert.equal((await next(bob, 'user-offline')).userId, 'ann');
  const offline = await ask(bob, 'private-message', { targetUserId: 'ann', message: 'hi' });
  assertFields(
    offline,
    { success: false, code: 'not_found', message: 'Target user not found or offline' },
    [],
  );
});
