// The application's stories, on Node's own Socket.IO server and behind roomcast.
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { stories } from './stories.mjs';
import { startWorld } from './world.mjs';

const main = fileURLToPath(new URL('dist/main.js', import.meta.url));

const worlds = {
  'Socket.IO\'s own server': { platform: 'socket.io' },
  'roomcast': { platform: 'roomcast' },
  'roomcast, Fastify, and an answer at the latest after 60 ms': { platform: 'roomcast', env: { HTTP: 'fastify', ANSWER_WITHIN: '60' } },
  'roomcast, two processes in turn': { platform: 'roomcast', processes: 2, roomcast: { HANDLER_HANDSHAKE: 'true' } },
};

for (const [name, options] of Object.entries(worlds)) {
  test(name, async (t) => {
    const world = await startWorld(main, options);
    t.after(world.stop);
    await stories(t, world);
  });
}
