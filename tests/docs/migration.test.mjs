// What is said of moving here, and of what is promised: the examples, run.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { ask, next } from '../clients/client.mjs';
import { story } from '../clients/story.mjs';
import { example, freePort, run, start, withFolder } from './examples.mjs';

story('a hand-written server, and what becomes of it', async ({ server }) => {
  const files = {
    'before-server.mjs': await example('before-server.mjs'),
    'before-client.mjs': await example('before-client.mjs'),
    'after-client.mjs': await example('after-client.mjs'),
  };
  await withFolder(files, async (cwd) => {
    const port = await freePort();
    const before = start(process.execPath, ['before-server.mjs'], { cwd, env: { PORT: String(port) } });
    try {
      const output = await run(process.execPath, ['before-client.mjs'], { cwd, env: { SERVER: `http://127.0.0.1:${port}` } });
      assert.equal(output, 'said: Hello');
    } finally {
      await before.stop();
    }
    assert.equal(await run(process.execPath, ['after-client.mjs'], { cwd, env: { SERVER: server.url } }), 'said: Hello');
  });
});

/** A network that can be cut, in front of a server. */
async function network(port) {
  const open = new Set();
  let isCut = false;
  const proxy = createServer((near) => {
    if (isCut) return near.destroy();
    const far = connect(port, '127.0.0.1');
    for (const socket of [near, far]) {
      open.add(socket);
      socket.on('error', () => {}).on('close', () => (near.destroy(), far.destroy()));
    }
    near.pipe(far).pipe(near);
  });
  await once(proxy.listen(0, '127.0.0.1'), 'listening');
  return {
    url: `http://127.0.0.1:${proxy.address().port}`,
    cut() {
      isCut = true;
      for (const socket of open) socket.destroy();
    },
    mend() {
      isCut = false;
    },
    close() {
      this.cut();
      proxy.close();
    },
  };
}

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
      between.mend();
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
