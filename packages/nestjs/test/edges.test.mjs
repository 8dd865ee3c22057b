// What is rare, forbidden or wrong: it is refused in clear words, and costs nothing else.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { Webhook } from 'standardwebhooks';
import { startServer } from '../../../tests/clients/server.mjs';
import { ask, askAll, Clients, next, waiting, within } from './client.mjs';
import { freePort, secret, settings } from './world.mjs';

const require = createRequire(import.meta.url);
const { log, start } = require('./dist/edges.js');
const { ROOMCAST_EVENTS } = require('../dist/names.js');
const { settings: checked } = require('../dist/options.js');

const options = { url: 'http://roomcast:3001', apiKey: 'the-key', secret, path: '/roomcast' };

/** Waits until something is so, looking again whenever other things have happened. */
const until = (what, holds) => within((async () => { while (!holds()) await new Promise(setImmediate); })(), () => `${what}; the log: ${log.join(' | ')}`);

test('behind roomcast', async (t) => {
  const port = await freePort();
  const roomcast = await startServer({ ...settings(`http://127.0.0.1:${port}`), WEBSOCKET_NAMESPACE: '/,/scoped,/strange' });
  t.after(() => roomcast.stop());
  const app = await start(port, { ...options, url: roomcast.url, roomcastEvents: ['heartbeat'], answerWithin: 300 });
  t.after(() => app.close());
  const story = (name, tell) =>
    t.test(name, async () => {
      const clients = new Clients(roomcast.url);
      try {
        await tell(clients);
      } finally {
        clients.close();
      }
    });
  const refusal = (clients, how, namespace = '/') => clients.connect(namespace, { how }).then(() => assert.fail('it was let in'), (error) => error);

  await story('handleConnection() that throws keeps the client out, and tells it no secrets', async (clients) => {
    assert.equal((await refusal(clients, 'throws')).message, 'Internal server error');
    await until('the log to tell the operator', () => log.some((line) => line.includes('a secret of the database')));
    assert.equal((await refusal(clients, 'refuses')).message, 'not you');
    assert.equal((await refusal(clients, 'unauthorized')).message, 'who are you?');
    assert.equal((await refusal(clients, 'x', '/strange')).message, 'Invalid namespace');
    // What it did before is undone once.
    await until('the end to be told', () => log.filter((line) => line.startsWith('disconnected refuses')).length === 1);
    assert.equal(app.server.sockets.sockets.size, 0);
  });

  await story('handleConnection() says who the client is', async (clients) => {
    const ann = await clients.connect('/', { how: 'identifies' });
    assert.deepEqual(await ask(ann, 'who'), { userId: 'ann', clientName: 'Ann', claims: { plan: 'gold' }, sockets: 1 });
  });

  await story('handleConnection() that takes long does not keep the client waiting', async (clients) => {
    const ann = await clients.connect('/', { how: 'hangs' });
    assert.deepEqual(await next(ann, 'soon'), [1]);
    assert.deepEqual(await next(ann, 'at-last'), [['late']]);
  });

  await story('listeners of a client acknowledge when they like', async (clients) => {
    const ann = await clients.connect('/', { how: 'listens' });
    assert.deepEqual(await ask(ann, 'plain', 7), { value: 7 });
  });

  await story('what cannot be had says so, and what there is instead', async (clients) => {
    const ann = await clients.connect();
    const messages = await ask(ann, 'forbidden');
    const wanted = [/server\.engine.*fetchSockets/, /namespace\.adapter.*fetchSockets/, /server\.local/, /server\.adapter\(\).*configure it there/, /serverSideEmit.*Redis/, /regular expression.*WEBSOCKET_NAMESPACE/, /client\.client.*client\.conn/, /onAnyOutgoing/, /60000 ms.*30000/, /identify.*handleConnection/, /reserved event name/, /1 to 200 characters/];
    assert.equal(messages.length, wanted.length);
    messages.forEach((message, index) => assert.match(message, wanted[index]));
  });

  await story('events that no gateway knows are refused, roomcast\'s own among them', async (clients) => {
    const ann = await clients.connect();
    for (const event of ['unknown', 'join-room', 'constructor', 'x'.repeat(10_000)]) {
      const answer = await ask(ann, event, 'r');
      assert.deepEqual([answer.success, answer.code], [false, 'unknown_event']);
    }
    assert.equal((await ask(ann, 'heartbeat')).success, true);
    // A gateway's is the gateway's: roomcast does not send it to a room.
    assert.deepEqual(await ask(ann, 'message', { roomName: 'r', message: 'x' }), { mine: { roomName: 'r', message: 'x' } });
    assert.deepEqual(await ask(ann, '__proto__', JSON.parse('{"__proto__": {"x": 1}}')), { value: JSON.parse('{"__proto__": {"x": 1}}') });
    assert.deepEqual(Object.keys(Object.prototype), []);
  });

  await story('several gateways answer one event', async (clients) => {
    const ann = await clients.connect();
    assert.deepEqual(await askAll(ann, 'both'), ['acknowledged']);
    await next(ann, 'one');
    await next(ann, 'two');
  });

  await story('data that is too much for roomcast stays here, and an answer that is too large goes in parts', async (clients) => {
    const ann = await clients.connect();
    assert.equal(await ask(ann, 'too-much-data'), 1);
    assert.equal(await ask(ann, 'how-much-data'), 5000);
    assert.ok(log.some((line) => line.includes('more than 4000 bytes')), log.join('\n'));
    assert.equal(await ask(ann, 'large'), 'sent');
    for (let n = 1; n <= 4; n++) assert.equal((await next(ann, 'part'))[0], n);
    ann.emit('cycle');
    assert.equal((await next(ann, 'exception'))[0].message, 'Internal server error');
    assert.equal(waiting(ann, 'cycle'), 0);
  });

  await story('the server asks a client, which answers or does not', async (clients) => {
    const ann = await clients.connect();
    assert.equal(await ask(ann, 'ask-me'), 'operation has timed out');
    ann.on('question', (n, ack) => ack(n + 1));
    assert.equal(await ask(ann, 'ask-me'), 2);
  });

  await story('gateways of request scope', async (clients) => {
    const [ann, bob] = [await clients.connect('/scoped'), await clients.connect('/scoped')];
    const [[one], [two]] = [await next(ann, 'number'), await next(bob, 'number')];
    assert.notEqual(one, two);
    assert.equal(await ask(ann, 'number'), one);
  });

  await story('clients that have gone are forgotten, and that is told once', async (clients) => {
    await until('all clients of before to be forgotten', () => app.server.sockets.sockets.size === 0 && app.server.of('/scoped').sockets.size === 0);
    const all = [];
    while (all.length < 20) all.push(await clients.connect('/', { how: 'goes' }));
    assert.equal(app.server.sockets.sockets.size, 20);
    for (const one of all) one.close();
    await until('the ends', () => app.server.sockets.sockets.size === 0);
    assert.equal(log.filter((line) => line.startsWith('disconnected goes')).length, 20);
  });

  await story('a client that this process forgot is known by its next event', async (clients) => {
    const ann = await clients.connect('/', { how: 'forgotten' });
    app.server.sockets.sockets.clear();
    const before = log.length;
    assert.equal((await ask(ann, 'who')).sockets, 1);
    assert.deepEqual(log.slice(before), []);
    ann.close();
    await until('its end', () => app.server.sockets.sockets.size === 0);
    // A hook that fails is logged: what it asked for is not known in this process.
    await until('the fault', () => log.slice(before).some((line) => line.includes('HANDLER_HANDSHAKE=true')));
  });

  await story('whoever is not roomcast is not heard', async () => {
    const send = (body, headers) => fetch(`http://127.0.0.1:${port}/roomcast`, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body });
    const body = JSON.stringify({ type: 'event', id: '1', client: { clientId: 'x'.repeat(20), namespace: '/', rooms: [], data: {} }, event: 'who', args: [] });
    const signed = (key, at = new Date()) => ({ 'webhook-id': '1', 'webhook-timestamp': String(Math.floor(at / 1000)), 'webhook-signature': new Webhook(key).sign('1', at, body) });
    assert.equal((await send(body, {})).status, 401);
    assert.equal((await send(body, signed('whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'))).status, 401);
    assert.equal((await send(body, signed(secret, new Date(Date.now() - 400_000)))).status, 401);
    assert.equal((await send(`${body} `, signed(secret))).status, 401);
    assert.equal((await send(body, { ...signed(secret), 'webhook-signature': 'v1,' })).status, 401);
    assert.equal((await send(body, signed(secret))).status, 200);
    assert.equal((await fetch(`http://127.0.0.1:${port}/roomcast`)).status, 405);
    assert.equal((await send('x'.repeat(3_000_000), {})).status, 401);
    assert.equal((await send('x'.repeat(6_000_000), signed(secret))).status, 413);
    assert.equal((await fetch(`http://127.0.0.1:${port}/other`)).status, 404);
  });

  await t.test('the list of roomcast\'s own events is that of roomcast', async () => {
    const asyncapi = await (await fetch(`${roomcast.url}/asyncapi.json`)).json();
    const operations = Object.values(asyncapi.operations).filter((operation) => operation.action === 'receive');
    const names = new Set();
    for (const { messages } of operations) {
      for (const { $ref } of messages) {
        const [, , channel, , key] = $ref.split('/');
        let message = asyncapi.channels[channel.replace('~1', '/')].messages[key];
        if (message.$ref) message = asyncapi.components.messages[message.$ref.split('/').at(-1)];
        names.add(message.name);
      }
    }
    assert.deepEqual([...ROOMCAST_EVENTS].sort(), [...names].sort());
  });
});

test('options that are wrong are named', () => {
  const fault = (change) => {
    try {
      checked({ ...options, ...change });
    } catch (error) {
      return error.message;
    }
    return 'nothing';
  };
  assert.equal(fault({}), 'nothing');
  assert.equal(fault({ secret: `${secret},whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA` }), 'nothing');
  assert.match(fault({ url: 'roomcast' }), /url must be/);
  assert.match(fault({ apiKey: '' }), /apiKey is missing/);
  assert.match(fault({ secret: 'whsec_??' }), /HANDLER_SECRET/);
  assert.match(fault({ path: 'roomcast' }), /begin with a slash/);
  assert.match(fault({ answerWithin: 0 }), /positive/);
  assert.match(fault({ port: 1 }), /no option "port"; there are url/);
});

test('the package holds what it should, and nothing else', async () => {
  const { stdout } = await promisify(execFile)('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: new URL('..', import.meta.url) });
  const [{ files }] = JSON.parse(stdout);
  const names = files.map(({ path }) => path).filter((path) => !/^dist\/[a-z]+\.(js|d\.ts)$/.test(path));
  assert.deepEqual(names.sort(), ['LICENSE', 'README.md', 'package.json']);
  assert.ok(files.some(({ path }) => path === 'dist/index.js'));
});
