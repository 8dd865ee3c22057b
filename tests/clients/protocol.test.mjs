// What the official clients rely on in Node's server beside rooms and events: names, refusals, paths, namespaces, binary.
import assert from 'node:assert/strict';
import { ask, connected, next } from './client.mjs';
import { within } from './server.mjs';
import { story } from './story.mjs';

const env = { SOCKET_PATH: '/realtime/ws', WEBSOCKET_NAMESPACE: '/,/tenant-*' };

/** What a client is told when a namespace refuses it. */
const refused = (socket, version) =>
  within(new Promise((done) => socket.once(version <= 2 ? 'error' : 'connect_error', done)), 'a refusal');

/** Emits several arguments, and waits for the ack. */
const askAll = (socket, ...args) => within(new Promise((done) => socket.emit(...args, done)), 'an ack');

for (const version of [4, 3, 2]) {
  for (const transport of ['websocket', 'polling']) {
    const options = { version, transports: [transport], path: '/realtime/ws' };
    story(`generation ${version} by ${transport}`, env, async ({ open, connect }) => {
      const ann = await connect(options);
      for (const name of ['a\nb', '"quoted"', '\\', 'é\u2028']) {
        const answer = await askAll(ann, name, 1, 2);
        assert.equal(answer.code, 'unknown_event');
        assert.ok(answer.message.startsWith(`unknown event "${name}"`), answer.message);
      }
      assert.equal((await askAll(ann, 'message', 'lobby', 'text')).code, 'invalid_payload');

      const bytes = Buffer.from(Array.from({ length: 3000 }, (_, n) => n % 256));
      assert.equal((await ask(ann, 'message', { text: 'a file', bytes })).success, true);
      const { bytes: received } = await next(ann, 'message');
      assert.ok(Buffer.from(received).equals(bytes), 'the bytes came back as they were');

      const nowhere = await refused(open({ ...options, namespace: '/nowhere' }), version);
      if (version <= 2) {
        assert.equal(nowhere, 'Invalid namespace');
      } else {
        assert.equal(nowhere.message, 'Invalid namespace');
        assert.deepEqual(nowhere.data, { code: 'not_found' });
      }
      const [one, other] = [open({ ...options, namespace: '/tenant-1' }), open({ ...options, namespace: '/tenant-2' })];
      await Promise.all([connected(one), connected(other)]);
      for (const [tenant, socket] of [one, other].entries()) await ask(socket, 'message', { text: 'all', tenant });
      for (const [tenant, socket] of [one, other].entries()) assert.equal((await next(socket, 'message')).tenant, tenant);
    });

    story(`generation ${version} by ${transport} is told the code of its refusal`, { ...env, JWT_SECRET: 'a secret of at least thirty-two bytes' }, async ({ open }) => {
      const refusal = await refused(open(options), version);
      assert.match(version <= 2 ? refusal : refusal.message, /^authentication required/);
      if (version > 2) assert.deepEqual(refusal.data, { code: 'unauthorized' });
    });
  }
}
