// socket.io-client 4's `retries` is safe with IDEMPOTENCY_BY_ID: what is sent again because its acknowledgement was lost
// is done once.
import assert from 'node:assert/strict';
import net from 'node:net';
import { once } from 'node:events';
import { ask, connected, next, untaken } from './client.mjs';
import { within } from './server.mjs';
import { story } from './story.mjs';
import { SECRET, sign } from './token.mjs';

/** A proxy that swallows what the server says while `deaf`, and can cut the connection. */
async function startDeafProxy(server) {
  const proxy = { deaf: false };
  let sent = 0;
  let heard = () => {};
  const pairs = new Set();
  const listener = net.createServer((client) => {
    const upstream = net.connect(server.port, '127.0.0.1');
    const pair = [client, upstream];
    pairs.add(pair);
    for (const socket of pair) {
      socket.on('error', () => {});
      socket.on('close', () => {
        pairs.delete(pair);
        pair.forEach((other) => other.destroy());
      });
    }
    client.on('data', (chunk) => {
      sent += Number(proxy.deaf);
      heard();
      upstream.write(chunk);
    });
    upstream.on('data', (chunk) => proxy.deaf || client.write(chunk));
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  proxy.url = `http://127.0.0.1:${listener.address().port}`;
  /** When the client has sent so often since it hears nothing. */
  proxy.tries = (count) =>
    new Promise((done) => {
      heard = () => sent >= count && done();
      heard();
    });
  proxy.cut = () => pairs.forEach((pair) => pair.forEach((socket) => socket.destroy()));
  proxy.stop = () => {
    listener.close();
    proxy.cut();
  };
  return proxy;
}

const settings = { IDEMPOTENCY_BY_ID: 'true', JWT_SECRET: SECRET };

for (const lost of ['by silence', 'with its connection']) {
  story(`v4: retries, where the acknowledgement is lost ${lost}`, settings, async ({ server, open, member }) => {
    const watcher = await member('r', { auth: { token: sign({ sub: 'ben' }) } });
    const proxy = await startDeafProxy(server);
    try {
      const again = { retries: 5, ackTimeout: 300, reconnection: true, reconnectionDelay: 10 };
      const socket = open({ ...again, auth: { token: sign({ sub: 'ann' }) } }, proxy);
      await connected(socket);
      await next(socket, 'connected');
      proxy.deaf = true;
      const acknowledged = new Promise((done, failed) => {
        const message = { roomId: 'r', content: 'hi', id: 'm1' };
        socket.emit('sendMessage', message, (error, ack) => (error ? failed(error) : done(ack)));
      });
      const received = await next(watcher, 'newMessage');
      assert.equal(received.id, 'm1');
      if (lost === 'by silence') await within(proxy.tries(3), 'another try');
      else proxy.cut();
      proxy.deaf = false;
      const ack = await within(acknowledged, 'the acknowledgement');
      assert.deepEqual([ack.success, ack.id, ack.offset, ack.duplicate], [true, 'm1', received.offset, true]);
      assert.equal((await ask(watcher, 'ping', {})).success, true);
      assert.ok(!untaken(watcher).includes('newMessage'), 'it has come twice');
    } finally {
      proxy.stop();
    }
  });
}
