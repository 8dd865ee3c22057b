// The application that watches resources by number, and its backend that posts to /messages.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { ask, next, several, withoutOffset } from './client.mjs';
import { post } from './server.mjs';
import { assertFields, story } from './story.mjs';

story('two clients watch a resource and hear its messages and updates', async ({ connect }) => {
  const ann = await connect({ auth: { clientName: 'Ann' } });
  const bob = await connect({ auth: { clientName: 'Bob' } });

  const ack = await ask(ann, 'watch-resource', { resourceId: 7 });
  assertFields(
    ack,
    { clientId: ann.id, clientName: 'Ann', success: true, roomName: 'resource:7', resourceId: 7 },
    [],
  );
  assertFields(await next(ann, 'room-joined'), {
    success: true,
    roomName: 'resource:7',
    message: 'Successfully joined room: resource:7',
  });

  // The number and its decimal string are the same resource; the ack repeats what the caller wrote.
  assert.equal((await ask(bob, 'watch-resource', { resourceId: '7' })).resourceId, '7');
  assertFields(await next(ann, 'user-joined'), {
    socketId: bob.id,
    userId: null,
    clientName: 'Bob',
    room: 'resource:7',
  });

  const message = { resourceId: 7, message: 'changed', by: 'Ann' };
  assertFields(await ask(ann, 'message', message), { success: true, roomName: 'resource:7' });
  assert.deepEqual(withoutOffset(await next(ann, 'message-reply')), message);
  assert.deepEqual(withoutOffset(await next(bob, 'message-reply')), message);

  const update = { resourceId: 7, fields: { price: 3 } };
  assertFields(await ask(bob, 'channels', update), { success: true, roomName: 'resource:7' });
  assert.deepEqual(withoutOffset(await next(ann, 'resource-update')), update);
  assert.deepEqual(withoutOffset(await next(bob, 'resource-update')), update);
});

story('who no longer watches hears nothing', async ({ connect }) => {
  const [ann, bob] = [await connect(), await connect()];
  for (const socket of [ann, bob]) await ask(socket, 'watch-resource', { resourceId: 7 });

  const ack = await ask(ann, 'unwatch-resource', { resourceId: 7 });
  assertFields(ack, { success: true, roomName: 'resource:7', resourceId: 7, clientId: ann.id }, []);
  assertFields(await next(ann, 'room-left'), {
    success: true,
    roomName: 'resource:7',
    message: 'Successfully left room: resource:7',
  });
  assertFields(await next(bob, 'user-left'), { socketId: ann.id, userId: null, room: 'resource:7' });

  await ask(bob, 'message', { resourceId: 7, n: 1 });
  await next(bob, 'message-reply');
  await ask(ann, 'watch-resource', { resourceId: 7 });
  await ask(bob, 'message', { resourceId: 7, n: 2 });
  assert.equal((await next(ann, 'message-reply')).n, 2);
});

story('whether a sender hears itself: omitSender, else replyToSender, else how the room is named', async ({
  connect,
}) => {
  const spellings = { resourceId: 7, roomName: 'by-roomName', roomId: 'by-roomId', room: 'by-room' };
  const rules = [
    { fields: {}, hears: (spelling) => spelling === 'resourceId' },
    { fields: { replyToSender: true }, hears: () => true },
    { fields: { replyToSender: false }, hears: () => false },
    { fields: { omitSender: true }, hears: () => false },
    { fields: { omitSender: false }, hears: () => true },
    { fields: { omitSender: true, replyToSender: true }, hears: () => false },
    { fields: { omitSender: false, replyToSender: false }, hears: () => true },
    { fields: { omitSender: null, replyToSender: null }, hears: (spelling) => spelling === 'resourceId' },
    { fields: { omitSender: null, replyToSender: true }, hears: () => true },
  ];
  const [sender, other] = [await connect(), await connect()];
  for (const [spelling, value] of Object.entries(spellings)) {
    for (const socket of [sender, other]) await ask(socket, 'join-room', { [spelling]: value });
    for (const [n, { fields }] of rules.entries()) sender.emit('message', { [spelling]: value, n, ...fields });
    // The last one comes back whatever the rule: what has not arrived before it was left out.
    sender.emit('message', { [spelling]: value, n: 'end', omitSender: false });

    const numbers = (messages) => messages.map((message) => message.n);
    const all = [...rules.keys(), 'end'];
    assert.deepEqual(numbers(await several(other, 'message-reply', all.length)), all);
    const own = all.filter((n) => n === 'end' || rules[n].hears(spelling));
    assert.deepEqual(numbers(await several(sender, 'message-reply', own.length)), own, spelling);
  }
});

/** A complete body for the /messages routes. */
const dto = (fields) => ({
  id: randomUUID(),
  clientId: 'backend',
  clientName: 'the backend',
  roomName: 'orders',
  messageType: 'text',
  message: 'a new order: 1 × ☕',
  timestamp: new Date().toISOString(),
  ...fields,
});

story('a backend broadcasts to a room', async ({ server, member, connect }) => {
  const [ann, bob] = [await member('orders'), await member('orders', { version: 2 })];

  const first = dto();
  const answer = await post(server, '/messages/broadcast', first);
  assert.equal(answer.status, 201);
  assert.equal(JSON.stringify(withoutOffset(answer.body)), JSON.stringify(first));
  for (const socket of [ann, bob]) {
    assert.equal(JSON.stringify(withoutOffset(await next(socket, 'message-reply'))), JSON.stringify(first));
  }

  // The client that the body names is left out, unless the body asks for its copy.
  const [without, withCopy] = [dto({ clientId: ann.id }), dto({ clientId: ann.id, replyToSender: true })];
  assert.equal((await post(server, '/messages/broadcast', without)).status, 201);
  assert.equal((await post(server, '/messages/broadcast', withCopy)).status, 201);
  assert.equal((await next(bob, 'message-reply')).id, without.id);
  assert.equal((await next(bob, 'message-reply')).id, withCopy.id);
  assert.equal((await next(ann, 'message-reply')).id, withCopy.id);

  const { roomName, ...unnamed } = dto();
  const watcher = await connect();
  await ask(watcher, 'watch-resource', { resourceId: 7 });
  assert.equal((await post(server, '/messages/broadcast', { ...unnamed, resourceId: '7' })).status, 201);
  assert.deepEqual(withoutOffset(await next(watcher, 'message-reply')), { ...unnamed, resourceId: '7' });
  assert.equal((await post(server, '/messages/broadcast', { ...unnamed, roomId: roomName })).status, 201);
  assert.deepEqual(withoutOffset(await next(ann, 'message-reply')), { ...unnamed, roomId: roomName });
});

story('a backend sends to one client, as the event it likes', async ({ server, connect }) => {
  const [ann, bob] = [await connect(), await connect({ namespace: '/chat' })];

  const invoice = dto();
  const answer = await post(server, `/messages/${encodeURIComponent(ann.id)}?eventName=invoice-ready`, invoice);
  assert.equal(answer.status, 201);
  assert.deepEqual(answer.body, invoice);
  assert.deepEqual(await next(ann, 'invoice-ready'), invoice);

  const [forAnn, forBob] = [dto(), dto()];
  assert.equal((await post(server, `/messages/${encodeURIComponent(ann.id)}`, forAnn)).status, 201);
  assert.deepEqual(await next(ann, 'message-reply'), forAnn);
  assert.equal((await post(server, `/messages/${encodeURIComponent(bob.id)}`, forBob)).status, 201);
  assert.deepEqual(await next(bob, 'message-reply'), forBob, 'what was for Ann came to Bob');

  const missing = await post(server, '/messages/no-such-client', dto());
  assert.equal(missing.status, 404);
  assertFields(missing.body, { statusCode: 404, error: 'Not Found' }, []);
  assert.equal(typeof missing.body.message, 'string');
});

story('a backend is told every fault of its body at once, and nobody hears of it', async ({ server, member }) => {
  const ann = await member('orders');
  const faulty = dto({ id: '1', message: '', replyToSender: 'yes', timestamp: 'yesterday', foo: 1 });
  const refused = await post(server, '/messages/broadcast', faulty);
  assert.equal(refused.status, 400);
  assertFields(refused.body, { statusCode: 400, error: 'Bad Request' }, []);
  assert.deepEqual(
    [...refused.body.message].sort(),
    [
      'id must be a UUID',
      'message should not be empty',
      'property foo should not exist',
      'replyToSender must be a boolean value',
      'timestamp must be a valid ISO 8601 date string',
    ],
  );

  const malformed = await post(server, '/messages/broadcast', '{"id": ');
  assert.equal(malformed.status, 400);
  assertFields(malformed.body, { statusCode: 400, error: 'Bad Request' }, []);
  assert.equal(typeof malformed.body.message, 'string');

  const good = dto();
  assert.equal((await post(server, '/messages/broadcast', good)).status, 201);
  assert.equal((await next(ann, 'message-reply')).id, good.id);
});
