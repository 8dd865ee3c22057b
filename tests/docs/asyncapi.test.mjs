// The document of the events is valid, and says what a server really sends and takes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Parser } from '@asyncapi/parser';
import Ajv from 'ajv';
import formats from 'ajv-formats';
import { ask, disconnected, next, several } from '../clients/client.mjs';
import { startServer } from '../clients/server.mjs';
import { story } from '../clients/story.mjs';
import { SECRET, inSeconds, sign } from '../clients/token.mjs';

/** Every object of the schemas without fields that are not named, unless it says that it takes them. */
function closed(schema) {
  if (Array.isArray(schema)) return schema.map(closed);
  if (schema === null || typeof schema !== 'object') return schema;
  const copy = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, closed(value)]));
  return copy.type === 'object' && copy.properties ? { additionalProperties: false, ...copy } : copy;
}

/** Answers `check(message, payload)`: the faults of a payload by the document's message of that key. */
function checker(document, prepare = (schema) => schema) {
  const ajv = formats(new Ajv({ strict: false, allErrors: true }));
  ajv.addSchema({ ...document, components: { ...document.components, schemas: prepare(document.components.schemas) } }, 'document');
  return (key, payload) => {
    const message = document.components.messages[key];
    assert.ok(message, `the document has no message ${key}`);
    const validate = ajv.compile(JSON.parse(JSON.stringify(message.payload).replaceAll('"#/', '"document#/')));
    return validate(payload) ? [] : validate.errors.map(({ instancePath, message: text, params }) => `${key}${instancePath} ${text} ${JSON.stringify(params)}: ${JSON.stringify(payload)}`);
  };
}

const fetchDocument = async (server) => (await fetch(`${server.url}/asyncapi.json`)).json();

test('the document is valid AsyncAPI 3, by the official parser', async () => {
  const server = await startServer({ API_KEYS: 'a-key-that-this-route-does-not-need' });
  try {
    const response = await fetch(`${server.url}/asyncapi.json`);
    assert.equal(response.status, 200);
    assert.match(response.headers.get('content-type'), /^application\/json/);
    const text = await response.text();
    const { document, diagnostics } = await new Parser().parse(text);
    const faults = diagnostics.filter(({ severity, code }) => severity <= 1 && code !== 'asyncapi-latest-version');
    assert.deepEqual(faults.map(({ code, message, path }) => `${code}: ${message} at ${path.join('.')}`), []);
    assert.equal(document.version(), '3.0.0');
    assert.equal(document.operations().filterByReceive().length, 18);
    assert.equal(document.operations().filterBySend().length, 30);
    const broken = await new Parser().parse(text.replace('"action": "send"', '"action": "shout"'));
    assert.equal(broken.document, undefined);
  } finally {
    await server.stop();
  }
});

test('the examples are valid', async () => {
  const server = await startServer();
  try {
    const document = await fetchDocument(server);
    const check = checker(document, closed);
    const examples = Object.entries(document.components.messages).flatMap(([key, { examples = [] }]) => examples.map(({ payload }) => [key, payload]));
    assert.ok(examples.length > 40, `only ${examples.length} messages have an example`);
    assert.deepEqual(examples.flatMap(([key, payload]) => check(key, payload)), []);
  } finally {
    await server.stop();
  }
});

/** Records every event of every socket, and asks for acknowledgements, to compare all of it with the document. */
class Witness {
  seen = new Set();
  faults = [];

  constructor(document) {
    this.document = document;
    this.check = checker(document, closed);
    this.checkSent = checker(document);
  }

  note(key, payload) {
    this.seen.add(key);
    this.faults.push(...this.check(key, payload));
  }

  watch(socket) {
    socket.onAny((event, payload) => this.document.components.messages[`server.${event}`] && this.note(`server.${event}`, payload));
    return socket;
  }

  /** Sends what the document permits; it must be honoured. */
  async good(socket, event, ...payload) {
    this.faults.push(...this.checkSent(`client.${event}`, payload[0] ?? null));
    const ack = await ask(socket, event, ...payload);
    assert.equal(ack.success, true, `${event}: ${JSON.stringify(ack)}`);
    this.seen.add(`client.${event}`);
    this.note(`ack.${event}`, ack);
    return ack;
  }

  /** Sends what the document does not permit; it must be refused. */
  async bad(socket, event, payload) {
    const documented = this.document.operations[`client.${event}`]['x-refusals'];
    assert.notDeepEqual(this.checkSent(`client.${event}`, payload), [], `the document permits ${event} ${JSON.stringify(payload)}`);
    const ack = await ask(socket, event, payload);
    assert.equal(ack.success, false, `${event}: ${JSON.stringify(payload)} was honoured`);
    assert.ok(documented.includes(ack.code), `${event} is refused with ${ack.code}, which the document does not name`);
    this.note(`ack.${event}`, ack);
    await next(socket, 'error');
  }

  /** Everything was as the document says, and of these messages none was missing. */
  end(keys) {
    assert.deepEqual(this.faults, []);
    assert.deepEqual(keys.filter((key) => !this.seen.has(key)), []);
  }
}

story('every event and every acknowledgement is as the document says', { PRESENCE_GRACE: '20ms' }, async ({ server, connect }) => {
  const witness = new Witness(await fetchDocument(server));
  const { good, bad } = { good: witness.good.bind(witness), bad: witness.bad.bind(witness) };
  const a = witness.watch(await connect({ auth: { clientName: 'Ada' } }));
  const b = witness.watch(await connect());
  // What came before `watch`.
  witness.note('server.connected', await next(a, 'connected'));
  await next(a, 'client-connected', ({ clientId }) => clientId === b.id);

  await good(a, 'authenticate', { userId: 'alice' });
  await good(b, 'authenticate', 'bob');
  await next(a, 'user-online');
  await next(a, 'authenticated');

  for (const room of ['dashed', { roomName: 'dashed-2' }, { roomId: 7 }, { room: 'dashed-3' }, { resourceId: 9 }]) {
    for (const socket of [a, b]) await good(socket, 'join-room', room);
    await good(b, 'leave-room', room);
  }
  await good(b, 'join-room', { roomName: 'dashed' });
  for (const socket of [a, b]) await good(socket, 'watch-resource', { resourceId: '7' });
  for (const socket of [a, b]) await good(socket, 'joinRoom', 'camel-1');
  for (const socket of [a, b]) await good(socket, 'joinRoom', { roomId: 'camel' });
  await several(a, 'userJoinedRoom', 2);

  const { epoch } = await good(a, 'message', { roomName: 'dashed', text: 'Hi', n: { any: [1] } }).then(() => good(b, 'join-room', { roomName: 'dashed', offset: 0 }));
  await next(b, 'message-reply');
  await good(b, 'join-room', { roomName: 'dashed', offset: 0, epoch });
  await good(b, 'join-room', { roomName: 'dashed', offset: 99 });
  await good(a, 'message', { text: 'to everyone', id: 7 });
  await good(a, 'message', 'to everyone');
  await several(b, 'message', 2);
  await good(a, 'channels', { resourceId: 7, state: 'on' });
  await next(a, 'resource-update');
  await good(a, 'sendMessage', { roomId: 'camel', content: 'Hi', id: 'm-1', more: true });
  await next(b, 'newMessage');
  await next(a, 'messageSent');
  await good(a, 'custom-event', { event: 'mine', data: { n: 1 }, room: 'dashed' });
  await good(a, 'custom-event', { event: 'mine' });
  await good(a, 'typingIndicator', { roomId: 'camel', isTyping: true });
  await next(b, 'userTyping');
  await good(b, 'readReceipt', { roomId: 'camel', messageId: 'm-1' });
  await next(a, 'messageRead');
  await good(a, 'presenceUpdate', { status: 'busy' });
  await next(b, 'presenceUpdate');
  await good(a, 'private-message', { targetUserId: 'bob', message: { text: 'Hi' }, messageType: 'notification' });
  await good(a, 'private-message', { target: 'bob', message: 'Hi' });
  await several(b, 'private-message', 2);
  await several(a, 'message-sent', 2);
  await good(b, 'syncMessages', { roomId: 'camel', offset: 0, limit: 10 });
  await good(b, 'syncMessages', { roomId: 'camel', lastMessageId: 'm-1' });
  await several(b, 'syncComplete', 2);
  await good(a, 'ping');
  await next(a, 'pong');
  await good(a, 'heartbeat');

  await bad(a, 'join-room', {});
  await bad(a, 'join-room', { roomName: 'dashed', offset: -1 });
  await bad(a, 'watch-resource', null);
  await bad(a, 'joinRoom', true);
  await bad(a, 'leave-room', []);
  await bad(a, 'unwatch-resource', { name: 'x' });
  await bad(a, 'leaveRoom', {});
  await bad(a, 'message', { anything: 'else' });
  await bad(a, 'message', 7);
  await bad(a, 'channels', { state: 'on' });
  await bad(a, 'sendMessage', { roomId: 'camel' });
  await bad(a, 'sendMessage', { content: 'Hi' });
  await bad(a, 'custom-event', { data: 1 });
  await bad(a, 'typingIndicator', { roomId: 'camel', isTyping: 'yes' });
  await bad(a, 'readReceipt', { roomId: 'camel' });
  await bad(a, 'authenticate', []);
  await bad(a, 'presenceUpdate', { status: 'asleep' });
  await bad(a, 'private-message', { target: 'bob' });
  await bad(a, 'private-message', { message: 'Hi' });
  await bad(a, 'private-message', { target: 'bob', message: 'Hi', messageType: 'smoke' });
  await bad(a, 'syncMessages', { roomId: 'camel', limit: 0 });
  await next(a, 'exception');

  await good(b, 'leaveRoom', 'camel-1');
  await good(b, 'leaveRoom', { roomId: 'camel' });
  await good(b, 'unwatch-resource', { resourceId: '7' });
  await several(b, 'leftRoom', 2);
  await several(a, 'userLeftRoom', 2);
  b.close();
  await next(a, 'client-disconnected');
  await next(a, 'user-offline');
  witness.end(Object.keys(witness.document.components.messages).filter((key) => !['server.token-expired', 'server.token-revoked'].includes(key)));
});

story('the same with authentication', { JWT_SECRET: SECRET, API_KEYS: 'a-key' }, async ({ server, connect }) => {
  const witness = new Witness(await fetchDocument(server));
  const short = sign({ sub: 'alice', exp: inSeconds(3) });
  const socket = witness.watch(await connect({ auth: { token: short } }));
  await witness.good(socket, 'authenticate', { userId: 'alice', token: short });
  await witness.good(socket, 'private-message', { targetUserId: 'nobody-here', message: 'Hi' });
  await next(socket, 'token-expired');
  await disconnected(socket);
  const revoked = witness.watch(await connect({ auth: { token: sign({ sub: 'bob', exp: inSeconds(600) }) } }));
  await fetch(`${server.url}/revocations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: 'Bearer a-key' },
    body: JSON.stringify({ userId: 'bob', expiresAt: new Date(Date.now() + 60_000) }),
  });
  await next(revoked, 'token-revoked');
  witness.end(['server.token-expired', 'server.token-revoked', 'server.message-sent', 'ack.private-message']);
});
