// A client that polls and falls behind is cut off at the transport: it comes back by itself, and misses nothing.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { ask, next } from './client.mjs';
import { within } from './server.mjs';
import { story } from './story.mjs';

/** Has another process send the messages while this one, and with it its clients, stands still. */
function sendMeanwhile(server, messages) {
  const bodies = messages.map((n) => ({
    id: '3f2b1f6e-9c1e-4b57-8f0e-3f8f4d1c2a10',
    clientId: 'backend',
    clientName: 'backend',
    roomName: 'r',
    messageType: 't',
    message: `${n} ${'x'.repeat(100_000)}`,
    timestamp: '2026-01-01T00:00:00Z',
  }));
  const send = `
    const [url, bodies] = [process.argv[1], JSON.parse(require('node:fs').readFileSync(0, 'utf8'))];
    const headers = { 'content-type': 'application/json' };
    (async () => {
      for (const body of bodies) {
        let status = 503; // As long as it is told to wait.
        while (status === 503) ({ status } = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) }));
        if (status !== 201) throw new Error('status ' + status);
      }
    })();`;
  execFileSync(process.execPath, ['-e', send, `${server.url}/messages/broadcast`], { input: JSON.stringify(bodies) });
}

for (const version of [4, 3, 2]) {
  story(
    `a client that polls and falls behind comes back and recovers (v${version})`,
    { SEND_BUFFER: '300KB', SEND_TIMEOUT: '2s', PING_TIMEOUT: '60s' },
    async ({ server, connect }) => {
      const options = { version, transports: ['polling'], reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 };
      const socket = await connect(options);
      const first = await ask(socket, 'join-room', { roomName: 'r' });
      assert.equal(first.success, true);
      await next(socket, 'room-joined');
      const back = new Promise((done) => socket.once('disconnect', () => socket.once('connect', done)));
      const gone = new Promise((done) => socket.once('disconnect', done));
      sendMeanwhile(server, [1, 2, 3, 4, 5, 6, 7, 8]);
      const reason = await within(gone, 'its end');
      assert.ok(['transport error', 'transport close'].includes(reason), reason);
      await within(back, 'its return');
      // What it got before counts; the rest is replayed.
      const ack = await ask(socket, 'join-room', { roomName: 'r', offset: first.offset, epoch: first.epoch });
      assert.deepEqual({ recovered: ack.recovered, missed: ack.missed }, { recovered: true, missed: 8 });
    },
  );
}
