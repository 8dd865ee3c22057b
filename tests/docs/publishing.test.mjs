// The programs that publish: they reach a client, they say why they may not, and they try again where that may help.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { next } from '../clients/client.mjs';
import { story } from '../clients/story.mjs';
import { example, python, run, start, withFolder } from './examples.mjs';

const KEY = 'the-key-of-a-backend';

/** A server that is busy once, and then has taken the event. */
async function busyOnce(use) {
  const bodies = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const part of request) body += part;
    bodies.push(JSON.parse(body));
    const busy = bodies.length === 1;
    response.writeHead(busy ? 503 : 201, { 'content-type': 'application/json', ...(busy && { 'retry-after': '1' }) });
    response.end(
      JSON.stringify(
        busy
          ? { statusCode: 503, message: 'busy', error: 'Service Unavailable' }
          : { id: 'x', offsets: { 'room-7': 7 }, queued: [], refused: [], notFound: [] },
      ),
    );
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  try {
    await use(`http://127.0.0.1:${server.address().port}`);
    assert.equal(bodies.length, 2);
    assert.deepEqual(bodies[0], bodies[1], 'it must be sent again with the same id');
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

/** What is to run the program in its folder. */
const programs = {
  'publish.mjs': async () => [process.execPath, 'publish.mjs'],
  'publish.py': async () => [python(), 'publish.py'],
  'publish.php': async () => ['php', 'publish.php'],
  'Publish.java': async (folder) => {
    await run('javac', ['-Werror', '-Xlint:all', '-d', 'classes', 'Publish.java'], { cwd: folder });
    return ['java', '-cp', join(folder, 'classes'), 'Publish'];
  },
};

for (const [name, prepare] of Object.entries(programs)) {
  story(`${name}: it publishes, reports and tries again`, { API_KEYS: KEY }, async ({ server, member }) => {
    await withFolder({ [name]: await example(name) }, async (cwd) => {
      const [command, ...args] = await prepare(cwd);
      const env = { ROOMCAST_URL: server.url, ROOMCAST_KEY: KEY };
      const client = await member('room-7');
      assert.match(await run(command, args, { cwd, env }), /offset 1|"room-7":1/);
      const price = await next(client, 'price-changed');
      assert.equal(price.price, 12.5);
      assert.equal(price.offset, 1);
      assert.ok(price.id.length > 30);

      const refused = await start(command, args, { cwd, env: { ...env, ROOMCAST_KEY: 'another' } }).end();
      assert.equal(refused.code, 1, refused.output);
      assert.match(refused.output, /^401: .*the API key is not one of API_KEYS/);

      await busyOnce(async (url) => {
        assert.match(await run(command, args, { cwd, env: { ...env, ROOMCAST_URL: url } }), /offset 7|"room-7":7/);
      });
    });
  });
}

story('with curl, waiting for acknowledgements', { API_KEYS: KEY }, async ({ server, member }) => {
  const client = await member('room-7');
  client.on('may-i-close', ({ door }, acknowledge) => acknowledge({ yes: door === 7 }));
  await withFolder({ 'ack.sh': await example('ack.sh') }, async (cwd) => {
    const output = await run('bash', ['ack.sh'], { cwd, env: { PATH: process.env.PATH, ROOMCAST_URL: server.url, ROOMCAST_KEY: KEY } });
    const { responses, timedOut } = JSON.parse(output);
    assert.deepEqual([responses, timedOut], [[{ clientId: client.id, args: [{ yes: true }] }], []]);
  });
});

story('with curl', { API_KEYS: KEY, JWT_SECRET: 'a secret of at least 32 random characters', AUTH_REQUIRED: 'false' }, async ({ server, member }) => {
  const env = { ROOMCAST_URL: server.url, ROOMCAST_KEY: KEY };
  const client = await member('room-7');
  await withFolder({ 'events.sh': await example('events.sh'), 'broadcast.sh': await example('broadcast.sh') }, async (cwd) => {
    const answer = JSON.parse((await run('bash', ['events.sh'], { cwd, env })).split('\n').at(-1));
    assert.deepEqual(answer, { id: 'p-1', offsets: { 'room-7': 1 }, queued: ['alice'], refused: [], notFound: [] });
    assert.equal((await next(client, 'price-changed')).sku, 'A-7');
    const body = JSON.parse(await run('bash', ['broadcast.sh'], { cwd, env }));
    assert.equal(body.offset, 2);
    assert.equal((await next(client, 'message-reply')).message, 'The invoice is paid');
    const { code, output } = await start('bash', ['events.sh'], { cwd, env: { ...env, ROOMCAST_KEY: 'another' } }).end();
    assert.equal(code, 22, output);
    assert.match(output, /the API key is not one of API_KEYS/);
  });
});
