// The backends of examples/handlers, in JavaScript and in Python: the same story with each of them.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { ask, connect, next } from '../clients/client.mjs';
import { withServer, within } from '../clients/server.mjs';
import { freePort, python, root, start, withFolder } from './examples.mjs';

const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';

const backends = {
  Express: { file: 'server.mjs', command: async () => [process.execPath, 'server.mjs'] },
  Fastify: { file: 'server.mjs', command: async () => [process.execPath, 'server.mjs', 'fastify'] },
  Python: { file: 'server.py', command: async () => [python(), 'server.py'] },
};

for (const [name, { file, command }] of Object.entries(backends)) {
  test(`${name}: orders are created, the staff is told, and strangers stay outside`, async (t) => {
    const text = await readFile(join(root, 'examples/handlers', file), 'utf8');
    await withFolder({ [file]: text }, async (cwd) => {
      const port = await freePort();
      const [program, ...args] = await command();
      const backend = start(program, args, { cwd, env: { PORT: String(port), HANDLER_SECRET: secret } });
      const sockets = [];
      const client = async (server, auth) => {
        const socket = await connect(server, { auth });
        sockets.push(socket);
        return socket;
      };
      const tell = async (server) => {
        await backend.line('listening');
        await assert.rejects(client(server, {}), /who are you/);
        const boss = await client(server, { name: 'boss' });
        await next(boss, 'room-joined');
        const ann = await client(server, { name: 'ann' });
        const order = { sku: 'A-7' };
        const answer = new Promise((done) => ann.emit('order:create', order, (...args) => done(args)));
        assert.deepEqual(await within(answer, 'the order'), [null, { id: 1, sku: 'A-7', by: 'ann' }]);
        assert.equal((await next(ann, 'room-joined')).roomName, 'order-1');
        assert.deepEqual(await next(boss, 'order:created'), { id: 1, sku: 'A-7', by: 'ann' });
        const wrong = await ask(ann, 'order:create', { sku: 7 });
        assert.deepEqual(wrong, { success: false, message: 'sku must be a string', code: 'invalid_order' });
        assert.equal((await ask(ann, 'toString')).code, 'unknown_event');
        assert.equal(await ask(ann, 'visits:count'), 1);
        assert.equal(await ask(ann, 'visits:count'), 2);
        // Whoever is not roomcast is not answered.
        const forged = await fetch(`http://127.0.0.1:${port}/roomcast`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', 'webhook-id': 'x', 'webhook-timestamp': '1', 'webhook-signature': 'v1,x' },
          body: JSON.stringify({ type: 'event', event: 'visits:count', args: [] }),
        });
        assert.equal(forged.status, 401);
      };
      const env = { HANDLER_URL: `http://127.0.0.1:${port}/roomcast`, HANDLER_SECRET: secret, HANDLER_CONNECT: 'true' };
      const close = () => sockets.forEach((socket) => socket.close());
      try {
        await withServer(env, tell, close, (message) => t.diagnostic(message));
      } finally {
        await backend.stop();
      }
    });
  });
}
