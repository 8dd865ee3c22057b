// Recovery, as the documents show it: connections break, and nothing is missed.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { ask, disconnected, next } from '../clients/client.mjs';
import { within } from '../clients/server.mjs';
import { story } from '../clients/story.mjs';
import { example, python, root, run, start, withFolder } from './examples.mjs';
import { network } from './network.mjs';

story('recovery', async ({ server, member }) => {
  const writer = await member('log');
  const say = (n) => ask(writer, 'message', { roomName: 'log', n });
  const between = await network(server.port);
  await withFolder({ 'recovery.mjs': await example('recovery.mjs') }, async (cwd) => {
    const reader = start(process.execPath, ['recovery.mjs'], { cwd, env: { SERVER: between.url } });
    try {
      await reader.line('joined 0');
      await say(1);
      await reader.line('received 1');
      between.cut();
      await next(writer, 'user-left');
      for (const n of [2, 3]) await say(n);
      between.restore();
      await reader.line('joined 2');
      await say(4);
      await reader.line('received 4');
      assert.deepEqual(reader.lines(), ['joined 0', 'received 1', 'received 2', 'received 3', 'joined 2', 'received 4']);
    } finally {
      await reader.stop();
      between.close();
    }
  });
});

story('the helper in JavaScript', async ({ connect }) => {
  await withFolder({ 'recovering.mjs': await example('recovering.mjs') }, async (folder) => {
    const { recovering } = await import(pathToFileURL(join(folder, 'recovering.mjs')).href);
    const reader = await connect({ reconnection: true, reconnectionDelay: 10, reconnectionDelayMax: 20 });
    const writer = await connect();
    const gaps = [];
    const room = recovering(reader, { onGap: (name) => gaps.push(name) });
    const seen = [];
    let waiting;
    reader.on('message-reply', (message) => {
      seen.push(message.n);
      if (seen.length === waiting?.count) waiting.done();
    });
    const until = (count) => within(new Promise((done) => (waiting = { count, done })), `${count} messages`);
    const say = (n) => ask(writer, 'message', { roomName: 'lobby', n });

    assert.equal((await room.join('lobby')).success, true);
    await next(reader, 'room-joined');
    const first = until(3);
    for (const n of [1, 2, 3]) await say(n);
    await first;
    assert.equal(room.offsetOf('lobby'), 3);

    const gone = disconnected(reader);
    reader.io.engine.close();
    await gone;
    for (const n of [4, 5, 6, 7]) await say(n);
    const rest = until(8);
    await next(reader, 'room-joined');
    await say(8);
    await rest;
    assert.deepEqual(seen, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert.deepEqual(gaps, []);
  });
});

story('the helper in Python', async ({ server, member }) => {
  const writer = await member('log');
  const say = (n) => ask(writer, 'message', { roomName: 'log', n });
  const between = await network(server.port);
  const files = { 'recovering.py': await example('recovering.py'), 'use.py': await example('recovering-use.py') };
  await withFolder(files, async (cwd) => {
    const reader = start(python(), ['use.py'], { cwd, env: { SERVER: between.url } });
    try {
      await next(writer, 'user-joined');
      await say(1);
      await reader.line('received 1');
      between.cut();
      await next(writer, 'user-left');
      for (const n of [2, 3]) await say(n);
      between.restore();
      await next(writer, 'user-joined');
      await say(4);
      await reader.line('received 4');
      const received = reader.lines().filter((line) => line.startsWith('received'));
      assert.deepEqual(received, ['received 1', 'received 2', 'received 3', 'received 4']);
    } finally {
      await reader.stop();
      between.close();
    }
  });
});

test('the helper in Java', async () => {
  await withFolder({ 'Rooms.java': await example('Rooms.java') }, async (cwd) => {
    const sources = join(root, 'tests/docs/java');
    await run('javac', ['-Xlint:all', '-Werror', '-d', 'classes', '-sourcepath', sources, 'Rooms.java', join(sources, 'Story.java')], { cwd });
    assert.equal(await run('java', ['-cp', 'classes', 'Story'], { cwd }), 'all is well');
  });
});
