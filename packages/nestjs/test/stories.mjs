// What clients of the application see. It is the same on Node's own Socket.IO server and behind roomcast.
import assert from 'node:assert/strict';
import { ask, askAll, Clients, disconnected, next, waiting } from './client.mjs';

/** POSTs JSON to the application's own HTTP routes. */
async function post(url, path, body) {
  const response = await fetch(url + path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  assert.equal(response.status, 201);
  return response.json();
}

/** Tells all stories. `world` has the `url` that clients connect to, and `api`, where the application has its HTTP routes. */
export async function stories(t, world) {
  for (const [name, tell] of Object.entries(all)) {
    await t.test(name, async () => {
      const clients = new Clients(world.url);
      try {
        await tell(clients, world);
      } finally {
        clients.close();
      }
    });
  }
}

const all = {
  async 'chat: names, rooms, everybody, one person'(clients) {
    const [ann, bob, cid] = [await clients.connect(), await clients.connect(), await clients.connect()];
    assert.deepEqual(await ask(ann, 'name', 'Ann'), { was: null });
    assert.deepEqual(await ask(ann, 'name', 'Anna'), { was: 'Ann' });
    assert.deepEqual(await ask(bob, 'name', 'Bob'), { was: null });
    assert.deepEqual(await ask(ann, 'enter', { room: 'tea' }), ['tea']);
    assert.deepEqual(await next(ann, 'topic'), ['Welcome to tea']);
    assert.deepEqual(await ask(bob, 'enter', { room: 'tea' }), ['tea']);
    assert.deepEqual(await next(ann, 'entered'), [{ room: 'tea', name: 'Bob' }]);
    assert.equal(await ask(ann, 'say', { room: 'tea', text: 'hello' }), 5);
    for (const one of [ann, bob]) assert.deepEqual(await next(one, 'said'), [{ from: 'Anna', text: 'hello' }]);
    bob.emit('shout', 'hey');
    assert.deepEqual(await next(bob, 'shouted-to-all'), ['hey']);
    for (const one of [ann, cid]) assert.deepEqual(await next(one, 'shouted'), ['HEY', { by: bob.id }]);
    cid.emit('whisper', [ann.id, 'psst']);
    assert.deepEqual(await next(ann, 'whispered'), [{ from: cid.id, text: 'psst' }]);
    ann.emit('except', { room: 'tea', not: ann.id });
    assert.deepEqual(await next(bob, 'chosen'), ['tea']);
    assert.equal(await ask(bob, 'leave', 'tea'), false);
    assert.equal(await ask(ann, 'say', { room: 'tea', text: 'gone?' }), 5);
    assert.deepEqual(await next(ann, 'said'), [{ from: 'Anna', text: 'gone?' }]);
    // What is not for them has not come: what came behind it has.
    cid.emit('whisper', [bob.id, 'last']);
    await next(bob, 'whispered');
    await ask(cid, 'name', 'Cid');
    assert.deepEqual([waiting(bob, 'said'), waiting(bob, 'shouted'), waiting(ann, 'chosen'), waiting(cid, 'said'), waiting(cid, 'whispered')], [0, 0, 0, 0, 0]);
  },

  async 'chat: several arguments, binary and odd values, both ways'(clients) {
    const ann = await clients.connect();
    assert.deepEqual(await askAll(ann, 'several', 1, 'two', [3]), [null, 3, [1, 'two', [3]]]);
    const { size, twice } = await ask(ann, 'bytes', { file: Buffer.from([1, 2]) });
    assert.equal(size, 2);
    assert.deepEqual(Buffer.from(twice), Buffer.from([1, 2, 1, 2]));
    const [bytes, rest] = await next(ann, 'bytes');
    assert.deepEqual([Buffer.from(bytes), rest], [Buffer.from([0, 255]), { isBuffer: true }]);
    const odd = JSON.parse('{"__proto__":{"x":1},"constructor":2}');
    for (const value of [{ $binary: 'AA==' }, { $literal: { $binary: 1 } }, { $x: [{ $y: null }] }, odd, [], '', 0, false, [[[]]], { a: 'ä\u{1F600}\u2028' }]) {
      assert.deepEqual(await ask(ann, 'odd', value), { value });
    }
  },

  async 'chat: who quits is disconnected, after its last event'(clients) {
    const ann = await clients.connect();
    ann.emit('quit');
    assert.deepEqual(await next(ann, 'bye'), [1]);
    await disconnected(ann);
  },

  async 'chat: the server asks a room'(clients) {
    const [ann, bob] = [await clients.connect(), await clients.connect()];
    for (const one of [ann, bob]) await ask(one, 'enter', { room: 'council' });
    bob.on('vote?', ({ room }, ack) => ack(`yes, ${room}`));
    ann.on('vote?', ({ room }, ack) => ack(`yes, ${room}`));
    const cid = await clients.connect();
    assert.deepEqual(await ask(cid, 'poll', 'council'), ['yes, council', 'yes, council']);
  },

  async 'one client\'s events stay in order'(clients) {
    const [ann, bob] = [await clients.connect(), await clients.connect()];
    for (const one of [ann, bob]) await ask(one, 'enter', { room: 'order' });
    for (let n = 1; n <= 100; n++) ann.emit('say', { room: 'order', text: String(n) });
    for (let n = 1; n <= 100; n++) assert.equal((await next(bob, 'said'))[0].text, String(n));
  },

  async 'rooms: posts are kept, validated and sent'(clients) {
    const [ann, bob] = [await clients.connect('/rooms'), await clients.connect('/rooms')];
    assert.deepEqual(await ask(ann, 'open', 'books'), { room: 'books', posts: [] });
    assert.deepEqual(await ask(bob, 'open', 'books'), { room: 'books', posts: [] });
    const post = { room: 'books', text: 'good', stars: 5 };
    assert.deepEqual(await ask(ann, 'post', post), { count: 1 });
    for (const one of [ann, bob]) assert.deepEqual(await next(one, 'posted'), [{ ...post, count: 1 }]);
    const cid = await clients.connect('/rooms');
    assert.deepEqual(await ask(cid, 'open', 'books'), { room: 'books', posts: [post] });
    cid.emit('post', { room: 'books', text: '', stars: 9 });
    const [refused] = await next(cid, 'exception');
    assert.deepEqual(refused, ['text', 'stars']);
    cid.emit('post', { ...post, room: 'films' });
    const [exception] = await next(cid, 'exception');
    assert.deepEqual([exception.status, exception.message], ['error', 'you are not in films']);
    assert.deepEqual(await ask(cid, 'open', 'films'), { room: 'films', posts: [] });
  },

  async 'rooms: members are listed, moved and disconnected'(clients) {
    const [ann, bob, cid] = [await clients.connect('/rooms'), await clients.connect('/rooms'), await clients.connect('/rooms')];
    for (const one of [ann, bob]) await ask(one, 'open', 'red');
    await ask(cid, 'open', 'blue');
    assert.deepEqual(await ask(cid, 'members', 'red'), [ann.id, bob.id].sort());
    assert.deepEqual(await ask(cid, 'members', cid.id), [cid.id]);
    assert.deepEqual(await ask(cid, 'members', 'nowhere'), []);
    cid.emit('merge', ['red', 'blue']);
    for (const one of [ann, bob, cid]) assert.deepEqual(await next(one, 'merged'), [{ from: 'red', into: 'blue' }]);
    assert.deepEqual(await ask(cid, 'members', 'blue'), [ann.id, bob.id, cid.id].sort());
    assert.deepEqual(await ask(cid, 'members', 'red'), []);
    const other = await clients.connect('/rooms');
    other.emit('close', 'blue');
    for (const one of [ann, bob, cid]) {
      assert.deepEqual(await next(one, 'closing'), ['blue']);
      await disconnected(one);
    }
    assert.deepEqual(await ask(other, 'members', 'blue'), []);
  },

  async 'presence: who comes and goes'(clients) {
    const refused = await clients.connect('/presence').then(() => undefined, (error) => error);
    assert.equal(refused.message, 'tell your name');
    assert.deepEqual([refused.data.code, refused.data.field], ['no_name', 'name']);
    const ann = await clients.connect('/presence', { name: 'Ann' });
    assert.deepEqual(await next(ann, 'welcome'), [{ name: 'Ann', names: ['Ann'] }]);
    const bob = await clients.connect('/presence', { name: 'Bob' });
    assert.deepEqual(await next(bob, 'welcome'), [{ name: 'Bob', names: ['Ann', 'Bob'] }]);
    assert.deepEqual(await next(ann, 'online'), ['Bob']);
    assert.deepEqual(await ask(ann, 'who'), ['Ann', 'Bob']);
    bob.emit('nudge', 'Ann');
    assert.deepEqual(await next(ann, 'nudged'), ['Bob']);
    const banned = await clients.connect('/presence', { name: 'banned' });
    assert.deepEqual(await next(banned, 'sorry'), ['banned']);
    await disconnected(banned);
    assert.deepEqual(await next(ann, 'offline'), ['banned']);
    bob.close();
    assert.deepEqual(await next(ann, 'offline'), ['Bob']);
    assert.deepEqual(await ask(ann, 'who'), ['Ann']);
    assert.equal(waiting(ann, 'online'), 0);
  },

  async 'guards: tokens, roles, interceptors, filters'(clients, { api }) {
    const { token } = await post(api, '/login', { sub: 'ann', roles: [] });
    const { token: admins } = await post(api, '/login', { sub: 'bob', roles: ['admin'] });
    const nobody = await clients.connect('/guarded');
    nobody.emit('whoami', 1);
    const [refused] = await next(nobody, 'exception');
    assert.deepEqual(refused, { status: 'error', message: 'the token is missing or not valid', cause: { pattern: 'whoami', data: 1 } });
    const ann = await clients.connect('/guarded', { token });
    assert.deepEqual(await ask(ann, 'whoami', 1), { ok: true, result: 'ann' });
    ann.emit('delete', { id: 7 });
    assert.equal((await next(ann, 'exception'))[0].message, 'Forbidden resource');
    const admin = await clients.connect('/guarded', { token: admins });
    assert.deepEqual(await ask(admin, 'delete', { id: 7 }), { deleted: 7 });
    assert.equal(await ask(ann, 'buy', 'tea'), 'bought tea');
    ann.emit('buy', 'unicorn');
    assert.deepEqual(await next(ann, 'out-of-stock'), [{ message: 'no unicorns left' }]);
    assert.equal(await ask(ann, 'buy', 'milk'), 'bought milk');
  },

  async 'streams: values now and later'(clients) {
    const ann = await clients.connect('/streams');
    ann.emit('three');
    for (const n of [1, 2, 3]) assert.deepEqual(await next(ann, 'three'), [n]);
    ann.emit('ticks', 20);
    for (let n = 0; n < 20; n++) assert.deepEqual(await next(ann, 'tick'), [n]);
    assert.deepEqual(await ask(ann, 'answer-late'), { late: true });
    assert.equal(await ask(ann, 'ack-later'), 'later');
    ann.emit('endless');
    assert.deepEqual(await next(ann, 'begun'), ['x']);
    assert.equal(await ask(ann, 'slow', 1), 'after 1');
    await next(ann, 'slow-begun');
    await next(ann, 'slow-done');
  },

  async 'streams: a handler that takes long'(clients) {
    const ann = await clients.connect('/streams');
    assert.equal(await ask(ann, 'slow', 700), 'after 700');
    assert.deepEqual(await next(ann, 'slow-begun'), [700]);
    assert.deepEqual(await next(ann, 'slow-done'), [700]);
  },

  async 'later: timers, and the application\'s HTTP routes, reach clients in order'(clients, { api }) {
    const [ann, bob] = [await clients.connect(), await clients.connect()];
    await ask(ann, 'enter', { room: 'news' });
    assert.deepEqual(await post(api, '/announce', { room: 'news' }), { announced: true });
    for (let n = 1; n <= 20; n++) assert.deepEqual(await next(ann, 'announced'), [n]);
    assert.equal(waiting(bob, 'announced'), 0);
    await post(api, '/announce', {});
    for (const one of [ann, bob]) for (let n = 1; n <= 20; n++) assert.deepEqual(await next(one, 'announced'), [n]);
    const streams = await clients.connect('/streams');
    assert.equal(await ask(streams, 'remind', 'tea'), 'I will');
    for (let n = 1; n <= 5; n++) assert.deepEqual(await next(streams, 'reminded'), ['tea', n]);
  },
};
