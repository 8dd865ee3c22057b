// What the documents say about moving here: the examples, run.
import assert from 'node:assert/strict';
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
