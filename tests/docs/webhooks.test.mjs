// The receivers of the documents, in JavaScript and in Python with the official packages: the same story with each of them.
import assert from 'node:assert/strict';
import { Webhook } from 'standardwebhooks';
import { ask } from '../clients/client.mjs';
import { story } from '../clients/story.mjs';
import { example, freePort, python, replaced, start, withFolder } from './examples.mjs';

const secrets = ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'whsec_c2VjcmV0IG9mIGEgYmFja2VuZCB0aGF0IGlzIG5ldw=='];

/** What runs each, and how it listens on this machine alone. */
const receivers = {
  'webhooks.mjs': { command: () => process.execPath, address: 'listen(8080', here: (port) => `listen(${port}, "127.0.0.1"` },
  'webhooks.py': { command: python, address: '"", 8080', here: (port) => `"127.0.0.1", ${port}` },
};

/** The data of the webhooks of this type that were told, in order. */
const toldOf = (receiver, type) =>
  receiver
    .lines()
    .filter((line) => line.startsWith(`${type} `))
    .map((line) => JSON.parse(line.slice(type.length + 1)));

for (const [name, { command, address, here }] of Object.entries(receivers)) {
  // The one secret, and each of the two while one replaces the other.
  for (const [at, configured] of [secrets[0], secrets.join(), [...secrets].reverse().join()].entries()) {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}/`;
    const env = { WEBHOOK_URL: url, WEBHOOK_SECRET: configured, WEBHOOK_EVENTS: '*' };
    story(`${name}: what happens is told, and strangers are not believed (${at + 1})`, env, async ({ member }) => {
      const text = replaced(await example(name), address, here(port));
      await withFolder({ [name]: text }, async (cwd) => {
        const receiver = start(command(), [name], { cwd, env: { WEBHOOK_SECRET: secrets[0] } });
        try {
          await receiver.line('listening');
          const client = await member('lobby');
          const sent = { roomName: 'lobby', id: 'm-1', text: 'grüße, 世界 "\\\\"', list: [1, { deep: null }], file: Buffer.from([0, 255]) };
          const ack = await ask(client, 'message', sent);
          assert.equal(ack.offset, 1);
          await ask(client, 'message', { roomName: 'lobby', id: 'm-2' });
          await receiver.line('"m-2"');
          const [message, second] = toldOf(receiver, 'message.created');
          const { data, epoch, ...about } = message;
          const expected = { room: 'lobby', namespace: '/', id: 'm-1', event: 'message-reply', userId: null, clientId: client.id };
          assert.deepEqual(about, { ...expected, offset: 1 });
          assert.match(epoch, /^[0-9a-f]{16}$/);
          assert.deepEqual([data.text, data.list, data.file, data.offset], [sent.text, sent.list, { $binary: 'AP8=' }, 1]);
          assert.deepEqual([second.id, second.offset, second.epoch], ['m-2', 2, epoch]);
          assert.deepEqual(toldOf(receiver, 'room.occupied'), [{ room: 'lobby', namespace: '/' }]);
          assert.equal(toldOf(receiver, 'room.joined')[0].clientId, client.id);

          // Only what roomcast has signed, and not long ago, is believed; a second try is no second webhook.
          const post = async (id, time, body, signed = body, secret = secrets[0]) => {
            const headers = {
              'webhook-id': id,
              'webhook-timestamp': String(Math.floor(time / 1000)),
              'webhook-signature': new Webhook(secret).sign(id, new Date(time), signed),
            };
            return (await fetch(url, { method: 'POST', headers, body })).status;
          };
          const body = JSON.stringify({ type: 'forged', data: {} });
          const now = Date.now();
          assert.equal(await post('msg_1', now, body, `${body} `), 401);
          assert.equal(await post('msg_1', now - 600_000, body), 401);
          assert.equal(await post('msg_1', now, body, body, secrets[1]), 401);
          const again = JSON.stringify({ type: 'again', data: {} });
          for (const _ of [1, 2]) assert.ok((await post('msg_2', now, again)) < 300);
          await receiver.line('again');
          assert.equal(toldOf(receiver, 'again').length, 1);
          assert.deepEqual(toldOf(receiver, 'forged'), []);
        } finally {
          await receiver.stop();
        }
      });
    });
  }
}
