// Every generation of client over every transport: alone, and all of them in one room.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { ask, connected, disconnected, next, several, withoutOffset } from './client.mjs';
import { emitted, post } from './server.mjs';
import { assertFields, assertTimestamp, story } from './story.mjs';

const kinds = [
  { name: 'v4, websocket', version: 4, transports: ['websocket'] },
  { name: 'v4, polling', version: 4, transports: ['polling'] },
  { name: 'v4, polling and then websocket', version: 4, transports: ['polling', 'websocket'] },
  { name: 'v3, websocket', version: 3, transports: ['websocket'] },
  { name: 'v3, polling and then websocket', version: 3, transports: ['polling', 'websocket'] },
  { name: 'v2, websocket', version: 2, transports: ['websocket'] },
  { name: 'v2, polling', version: 2, transports: ['polling'] },
  { name: 'v2, polling and then websocket', version: 2, transports: ['polling', 'websocket'] },
  { name: 'v1, websocket', version: 1, transports: ['websocket'] },
];

/** What goes to `connect` of a kind. */
const options = ({ version, transports }) => ({ version, transports });

/** Waits until the client that may upgrade has done so; asserts that the others are on their one transport. */
async function onItsTransport(socket, { transports }) {
  const { engine } = socket.io;
  const last = transports.at(-1);
  if (engine.transport.name !== last) await emitted(engine, 'upgrade');
  assert.equal(engine.transport.name, last);
}

for (const kind of kinds) {
  story(`${kind.name}: connects, joins, and hears itself`, async ({ connect }) => {
    const socket = await connect(options(kind));
    const { id } = socket;

    const hello = await next(socket, 'connected');
    assertFields(hello, { message: 'Connected to WebSocket server', clientId: id });
    assert.equal(typeof hello.connectionId, 'string');
    assert.notEqual(hello.connectionId, '');
    assertFields(
      await next(socket, 'client-connected'),
      { clientId: id, clientName: 'anonymous', message: 'Client connected' },
      [],
    );
    await onItsTransport(socket, kind);

    const ack = await ask(socket, 'join-room', { roomName: 'alone' });
    assertFields(ack, { clientId: id, clientName: 'anonymous', success: true, roomName: 'alone' }, []);
    assert.equal(typeof ack.message, 'string');
    assertFields(await next(socket, 'room-joined'), {
      success: true,
      roomName: 'alone',
      message: 'Successfully joined room: alone',
    });

    const sent = { roomName: 'alone', message: 'hello', replyToSender: true };
    const sentAck = await ask(socket, 'message', sent);
    assertFields(sentAck, { success: true, roomName: 'alone' });
    assert.equal(typeof sentAck.id, 'string');
    assert.deepEqual(withoutOffset(await next(socket, 'message-reply')), sent);
  });
}

story('all of them in one room hear one another in one order', async ({ connect }) => {
  const members = [];
  for (const kind of kinds) {
    const socket = await connect({ ...options(kind), query: { clientName: kind.name } });
    await onItsTransport(socket, kind);
    assert.equal((await ask(socket, 'join-room', { roomName: 'mixed' })).success, true);
    members.push({ name: kind.name, socket });
  }

  const each = 5;
  for (let n = 0; n < each; n += 1) {
    for (const { name, socket } of members) {
      socket.emit('message', { roomName: 'mixed', from: name, n, omitSender: false });
    }
  }

  const heard = [];
  for (const { socket } of members) heard.push(await several(socket, 'message-reply', each * members.length));
  for (const [index, { name }] of members.entries()) {
    assert.deepEqual(heard[index], heard[0], `${name} heard another order`);
  }
  for (const { name } of members) {
    const numbers = heard[0].filter((message) => message.from === name).map((message) => message.n);
    assert.deepEqual(numbers, [0, 1, 2, 3, 4], `the messages of ${name}`);
  }
});

story('a connection and its end are announced to everyone', async ({ connect }) => {
  const [first, second] = [await connect({ auth: { clientName: 'Ann' } }), await connect({ version: 3 })];
  const announcement = { clientId: second.id, clientName: 'anonymous' };
  const { id } = second;
  assertFields(
    await next(first, 'client-connected', ({ clientId }) => clientId === id),
    { ...announcement, message: 'Client connected' },
    [],
  );
  second.close();
  assertFields(await next(first, 'client-disconnected'), { ...announcement, message: 'Client disconnected' }, []);
});

story('binary attachments pass between generations and transports', async ({ member }) => {
  const members = [
    await member('files', { version: 4 }),
    await member('files', { version: 4, transports: ['polling'] }),
    await member('files', { version: 3 }),
    await member('files', { version: 2 }),
    await member('files', { version: 2, transports: ['polling'] }),
    await member('files', { version: 1 }),
  ];
  const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  for (const [from, sender] of members.entries()) {
    const sent = {
      roomName: 'files',
      from,
      file: every,
      more: { list: [Buffer.from('second'), 'text', Buffer.from([0])] },
      omitSender: false,
    };
    const ack = await ask(sender, 'message', sent);
    assert.equal(ack.success, true);
    for (const socket of members) {
      const got = withoutOffset(await next(socket, 'message-reply'));
      assert.equal(got.from, from);
      assert.deepEqual(Buffer.from(got.file), every);
      assert.deepEqual(Buffer.from(got.more.list[0]), Buffer.from('second'));
      assert.equal(got.more.list[1], 'text');
      assert.deepEqual(Buffer.from(got.more.list[2]), Buffer.from([0]));
      assert.deepEqual(Object.keys(got), Object.keys(sent));
    }
  }
});

story('an object arrives as it was written: its text, its numbers, the order of its keys', async ({ member }) => {
  const members = [
    await member('verbatim', { version: 4 }),
    await member('verbatim', { version: 4, transports: ['polling'] }),
    await member('verbatim', { version: 3 }),
    await member('verbatim', { version: 2 }),
    await member('verbatim', { version: 2, transports: ['polling'] }),
    await member('verbatim', { version: 1 }),
  ];
  const sent = {
    zebra: 1,
    message: 'Grüße, 你好, שלום, e\u0301, 👩‍👩‍👧‍👦, \u2028 \u0000 \u001f " \\ </script>',
    apple: { z: null, a: [], m: {}, '': 'no name', 'ключ 🔑': true },
    numbers: [0, -1, 0.1, 1e21, 1e-7, 9007199254740991, 3.0, 12345678901234567890],
    omitSender: false,
    roomName: 'verbatim',
    unknown: [[['deep']], { id: 'not the message' }],
  };
  for (const sender of members) {
    sender.emit('message', sent);
    for (const socket of members) {
      const got = await next(socket, 'message-reply');
      assert.equal(JSON.stringify(withoutOffset(got)), JSON.stringify(sent));
    }
  }
});

story('the name of a client comes from auth, query or header, in this order', async ({ connect }) => {
  const named = async (expected, how) => {
    const socket = await connect(how);
    assertFields(await next(socket, 'client-connected'), { clientId: socket.id, clientName: expected }, []);
    const ack = await ask(socket, 'join-room', `room of ${expected}`);
    assert.equal(ack.clientName, expected);
    assertTimestamp((await next(socket, 'room-joined')).timestamp);
  };
  const header = { extraHeaders: { 'x-client-name': 'by header' } };
  const query = { query: { clientName: 'by query' } };
  const auth = { auth: { clientName: 'by auth' } };
  await named('by auth', { ...auth, ...query, ...header });
  await named('by query', { ...query, ...header });
  await named('by header', header);
  await named('anonymous', {});
  await named('by query', { version: 2, ...query });
});

for (const kind of kinds) {
  story(`${kind.name}: in a namespace it is known by what it calls itself`, { NODE_ENV: 'development' }, async ({ server, connect }) => {
    const socket = await connect({ ...options(kind), namespace: '/chat' });
    const { id } = socket;
    if (kind.version > 2) assert.match(id, /^[A-Za-z0-9_-]{20}$/);
    assert.equal((await next(socket, 'connected')).clientId, id);
    await onItsTransport(socket, kind);
    assert.equal(socket.id, id);

    const message = {
      id: randomUUID(),
      clientId: 'backend',
      clientName: 'Backend',
      roomName: 'r',
      messageType: 'text',
      message: 'hello',
      timestamp: new Date().toISOString(),
    };
    const route = encodeURIComponent(id);
    assert.equal((await post(server, `/messages/${route}?eventName=direct`, message)).status, 201);
    assert.deepEqual(await next(socket, 'direct'), message);
    const ended = disconnected(socket);
    const answer = await fetch(`${server.url}/connections/${route}`, { method: 'DELETE' });
    assert.equal(answer.status, 204);
    assert.equal(await ended, 'io server disconnect');
  });
}

for (const version of [4, 3]) {
  story(`v${version}: the namespaces of one connection are different clients`, { NODE_ENV: 'development' }, async ({ server, connect }) => {
    const root = await connect({ version });
    const chat = root.io.socket('/chat');
    try {
      await connected(chat);
      assert.notEqual(chat.id, root.id);
      assert.ok(![chat.id, root.id].includes(root.io.engine.id));
      const ended = disconnected(chat);
      const answer = await fetch(`${server.url}/connections/${chat.id}`, { method: 'DELETE' });
      assert.equal(answer.status, 204);
      assert.equal(await ended, 'io server disconnect');
      assert.equal((await ask(root, 'ping', {})).success, true);
    } finally {
      chat.close();
    }
  });
}
