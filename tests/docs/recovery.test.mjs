// Recovery, as the documents show it: connections break, and nothing is missed.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { ask, next } from '../clients/client.mjs';
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

story('the package in JavaScript', { HISTORY_SIZE: '5' }, async ({ server, member }) => {
  const writer = await member('log');
  const say = (n) => ask(writer, 'message', { roomName: 'log', n });
  const between = await network(server.port);
  await withFolder({ 'recovering.mjs': await example('recovering.mjs') }, async (cwd) => {
    const reader = start(process.execPath, ['recovering.mjs'], { cwd, env: { SERVER: between.url } });
    try {
      await next(writer, 'user-joined');
      await say(1);
      await reader.line('received 1');
      between.cut();
      await next(writer, 'user-left');
      for (let n = 2; n <= 9; n++) await say(n);
      between.restore();
      await reader.line('received 9');
      const told = ['received 1', 'the messages 2 to 4 are gone', ...[5, 6, 7, 8, 9].map((n) => `received ${n}`)];
      assert.deepEqual(reader.lines(), told);
    } finally {
      await reader.stop();
      between.close();
    }
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
