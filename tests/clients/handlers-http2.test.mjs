// Backends with TLS: HTTP/2 where they offer it, HTTP/1.1 where they do not, and connections that die.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createSecureServer } from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import { connect as connectTcp, createServer as createTcpServer } from 'node:net';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ask, connect } from './client.mjs';
import { within, withServer } from './server.mjs';

const tls = new URL('../fixtures/tls/', import.meta.url);
const [key, cert] = ['server.key', 'server.pem'].map((file) => readFileSync(new URL(file, tls)));
const nodes = Number((process.env.ROOMCAST_TEST_REDIS && process.env.ROOMCAST_TEST_NODES) ?? 1);

/** A backend that acknowledges with the version of HTTP by which it is asked. */
async function startBackend(create, options, then = () => {}) {
  const backend = create({ key, cert, ...options }, async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    // HTTP/2's response does not chain.
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ ack: [request.httpVersion] }));
    then(request, JSON.parse(body));
  });
  let connections = 0;
  backend.on('secureConnection', () => (connections += 1));
  backend.listen(0, '127.0.0.1');
  await once(backend, 'listening');
  const close = () => {
    backend.close();
    backend.closeAllConnections?.();
  };
  return { port: backend.address().port, connections: () => connections, close };
}

/** Tells a story of clients whose events a backend at this port answers. */
async function tellOf(t, port, tell, env = {}) {
  const sockets = [];
  const told = (server) =>
    tell(async () => {
      const socket = await connect(server, {});
      sockets.push(socket);
      return socket;
    });
  const all = { HANDLER_URL: `https://127.0.0.1:${port}/`, SSL_CERT_FILE: fileURLToPath(new URL('ca.pem', tls)), ...env };
  await withServer(all, told, () => sockets.forEach((socket) => socket.close()), (message) => t.diagnostic(message));
}

test('a backend that speaks HTTP/2 is asked by it, all events at a time on one connection', async (t) => {
  const backend = await startBackend(createSecureServer, {});
  t.after(backend.close);
  await tellOf(t, backend.port, async (client) => {
    const sockets = [];
    while (sockets.length < 20) sockets.push(await client());
    // One on each node, so that each has its connection.
    for (const socket of sockets.slice(0, nodes)) assert.equal(await ask(socket, 'version'), '2.0');
    const answers = await Promise.all(sockets.flatMap((socket) => [1, 2, 3, 4, 5].map((n) => ask(socket, 'version', n))));
    assert.deepEqual(answers, Array(100).fill('2.0'));
    assert.equal(backend.connections(), nodes);
  });
});

test('a backend that ends its connections after some requests loses none, and gets none twice', async (t) => {
  const ids = [];
  const backend = await startBackend(createSecureServer, {}, (request, { id }) => {
    // As nginx does after keepalive_requests: what is on its way comes too late.
    if (ids.push(id) % 100 === 0) request.stream.session.close();
  });
  t.after(backend.close);
  await tellOf(t, backend.port, async (client) => {
    const sockets = [];
    while (sockets.length < 10) sockets.push(await client());
    const asked = sockets.map(async (socket) => {
      for (let n = 0; n < 60; n++) assert.equal(await ask(socket, 'version', n), '2.0');
    });
    await Promise.all(asked);
    assert.equal(ids.length, 600);
    assert.equal(new Set(ids).size, 600);
    assert.ok(backend.connections() > 5);
  });
});

test('a backend that speaks HTTP/1.1 alone is asked by that', async (t) => {
  const backend = await startBackend(createHttpsServer, {});
  t.after(backend.close);
  await tellOf(t, backend.port, async (client) => assert.equal(await ask(await client(), 'version'), '1.1'));
});

test('a connection that has died is given up, though HTTP/2 would keep it', async (t) => {
  const backend = await startBackend(createSecureServer, {});
  // What passes bytes on, until it is frozen: then nothing comes, and nothing is closed.
  let frozen = false;
  const pairs = new Set();
  const between = createTcpServer((from) => {
    const to = connectTcp(backend.port, '127.0.0.1');
    const pair = { from, to };
    pairs.add(pair);
    for (const [one, other] of [[from, to], [to, from]]) {
      one.on('data', (bytes) => pair.dead || other.write(bytes));
      one.on('error', () => {});
      one.on('close', () => pair.dead || other.destroy());
    }
  });
  between.listen(0, '127.0.0.1');
  await once(between, 'listening');
  const freeze = () => {
    frozen = true;
    for (const pair of pairs) pair.dead = true;
  };
  t.after(() => {
    between.close();
    for (const { from, to } of pairs) [from, to].forEach((one) => one.destroy());
    backend.close();
  });
  await tellOf(
    t,
    between.address().port,
    async (client) => {
      const socket = await client();
      assert.equal(await ask(socket, 'version'), '2.0');
      freeze();
      const answer = await ask(socket, 'version');
      assert.equal(answer.code, 'unavailable');
      const again = async () => {
        while ((await ask(socket, 'version')) !== '2.0');
      };
      await within(again(), 'an answer on a new connection');
      assert.ok(frozen && backend.connections() > 1);
    },
    { HANDLER_TIMEOUT: '1s' },
  );
});
