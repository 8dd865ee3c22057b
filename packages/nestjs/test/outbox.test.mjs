// What goes by roomcast's HTTP API: in order, once, and with bounds, whatever becomes of the connection.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { within } from './client.mjs';
import { secret } from './world.mjs';

const require = createRequire(import.meta.url);
const { Outbox } = require('../dist/outbox.js');
const { settings } = require('../dist/options.js');

/** A server in roomcast's place; `answer` gets each request, and its number. */
async function startRoomcast(t, answer) {
  const requests = [];
  // Like roomcast's, and unlike Node's own, it takes the requests of a connection one after the other.
  const turns = new WeakMap();
  const server = createServer((request, response) => {
    const { socket } = request;
    const take = async () => {
      if (socket.destroyed) return;
      let body = '';
      for await (const chunk of request.setEncoding('utf8')) body += chunk;
      const { authorization, 'idempotency-key': key } = request.headers;
      requests.push({ method: request.method, path: request.url, key, authorization, body: body && JSON.parse(body) });
      answer(requests.at(-1), response, requests.length);
      if (!socket.destroyed) await once(response, 'finish');
    };
    turns.set(socket, Promise.resolve(turns.get(socket)).then(take, take));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, requests };
}

const sent = (response) => response.writeHead(201, { 'content-type': 'application/json' }).end('{"notFound":[]}');

function outbox(t, url, options = {}) {
  const errors = [];
  const made = new Outbox(settings({ url, apiKey: 'the-key', secret, path: '/x', ...options }), { error: (error) => errors.push(error), warn() {} });
  t.after(() => made.close());
  return { outbox: made, errors };
}

const emission = (n, target = {}) => {
  const all = { namespace: '/', rooms: ['r'], clients: [], exceptRooms: [], exceptClients: [], ...target };
  return { kind: 'emit', emission: { event: 'e', args: `[{"n":${n}}]`, data: `{"n":${n}}`, target: all } };
};

test('events are sent in order, each once, though connections break', async (t) => {
  const done = new Map();
  const { url, requests } = await startRoomcast(t, ({ key, body }, response, number) => {
    // Some are lost: before they are done, or after.
    if (number === 7 || number === 40) return response.destroy();
    if (!done.has(key)) done.set(key, body.args[0].n);
    if (number === 20 || number === 41) return response.destroy();
    if (number === 60) return response.writeHead(503, { 'retry-after': '0' }).end('{}');
    sent(response);
  });
  const { outbox: out, errors } = outbox(t, url);
  for (let n = 0; n < 60; n++) out.add(emission(n));
  await within(out.settled(), () => `the end; ${requests.length} requests, ${errors}`, 60_000);
  assert.deepEqual(errors, []);
  assert.deepEqual([...done.values()], Array.from({ length: 60 }, (_, n) => n));
  assert.ok(requests.length > 60);
  assert.equal(requests[0].authorization, 'Bearer the-key');
});

test('what changes a client waits for what was sent before, and is waited for', async (t) => {
  let underWay = 0;
  const most = { events: 0, others: 0 };
  const { url, requests } = await startRoomcast(t, ({ path }, response) => {
    underWay += 1;
    const kind = path === '/events' ? 'events' : 'others';
    most[kind] = Math.max(most[kind], underWay);
    setImmediate(() => {
      underWay -= 1;
      if (kind === 'events') sent(response);
      else response.writeHead(200, { 'content-type': 'application/json' }).end('{"clients":1}');
    });
  });
  const { outbox: out } = outbox(t, url);
  const socket = { id: 'AAAAAAAAAAAAAAAAAAAA' };
  for (let n = 0; n < 5; n++) {
    out.add(emission(n));
    out.add({ kind: 'join', socket, rooms: ['a b', 'c'] });
    out.add({ kind: 'leave', socket, rooms: ['a b', 'c'] });
  }
  await within(out.settled(), 'the end');
  const three = ['POST /events', `POST /connections/${socket.id}/rooms`, `DELETE /connections/${socket.id}/rooms?room=a%20b&room=c`];
  assert.deepEqual(requests.map(({ method, path }) => `${method} ${path}`), Array(5).fill(three).flat());
  assert.deepEqual(most, { events: 1, others: 1 });
});

test('only with history, one object to rooms is a message', async (t) => {
  const { url, requests } = await startRoomcast(t, (_, response) => sent(response));
  for (const history of [false, true]) {
    const { outbox: out } = outbox(t, url, { history });
    out.add(emission(1, { rooms: ['r'], exceptClients: ['x'] }));
    out.add(emission(2, { rooms: [], namespace: '/chat' }));
    await within(out.settled(), 'the end');
  }
  const body = (field, n, rest) => ({ event: 'e', [field]: field === 'data' ? { n } : [{ n }], ...rest });
  const [one, two] = [{ namespace: '/', rooms: ['r'], except: { clients: ['x'] } }, { namespace: '/chat' }];
  assert.deepEqual(requests.map((request) => request.body), [body('args', 1, one), body('args', 2, two), body('data', 1, one), body('data', 2, two)]);
});

test('a client that has gone is forgotten, a refusal is logged, and neither holds up the rest', async (t) => {
  const gone = 'BBBBBBBBBBBBBBBBBBBB';
  const { url } = await startRoomcast(t, ({ body }, response, number) => {
    if (number === 1) return response.writeHead(400).end('{"message":["event must not be so"]}');
    response.writeHead(201).end(JSON.stringify({ notFound: body.clients ?? [] }));
  });
  const { outbox: out, errors } = outbox(t, url);
  const forgotten = [];
  out.onGone = (id) => forgotten.push(id);
  out.add(emission(1));
  out.add(emission(2, { rooms: [], clients: [gone] }));
  out.add(emission(3));
  await within(out.settled(), 'the end');
  assert.deepEqual(errors, ['sending "e" has failed: event must not be so']);
  assert.deepEqual(forgotten, [gone]);
});

test('what waits is bounded', async (t) => {
  // It never answers.
  const { url } = await startRoomcast(t, () => {});
  const { outbox: out, errors } = outbox(t, url);
  const large = emission(1);
  large.emission.args = `["${'x'.repeat(1_000_000)}"]`;
  for (let n = 0; n < 200; n++) out.add(large);
  assert.deepEqual(errors, ['roomcast does not take what is sent fast enough: further effects are dropped']);
});
