// Who leaves a namespace and comes back at once, on the connection that stays open, is let in again.
import assert from 'node:assert/strict';
import { ask, connected } from './client.mjs';
import { story } from './story.mjs';

/** How often it leaves and comes back. */
const RETURNS = 300;

for (const version of [4, 3]) {
  for (const transport of ['websocket', 'polling']) {
    story(`v${version}, ${transport}: disconnect().connect() is always answered`, { RATE_LIMIT_EVENTS: '0' }, async ({ connect }) => {
      const root = await connect({ version, transports: [transport] });
      const chat = root.io.socket('/chat');
      try {
        for (let count = 0; count < RETURNS; count++) {
          await connected(chat);
          chat.disconnect().connect();
        }
        await connected(chat);
        assert.equal((await ask(chat, 'ping', {})).success, true);
      } finally {
        chat.close();
      }
    });
  }
}
