// Several nodes behind balancers, as the documents have them: with real clients that poll, upgrade, and come back.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { Agent } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { ask, connect, next } from '../clients/client.mjs';
import { startServer, within } from '../clients/server.mjs';
import { binary, example, freePort, replaced, root, run, start, withFolder } from './examples.mjs';

const NGINX = join(root, 'deploy/nginx.conf');

/** Waits until this answers with 200. */
async function ready(url) {
  const until = Date.now() + 20_000;
  for (;;) {
    const response = await fetch(url).catch((error) => ({ status: error.message }));
    if (response.status === 200) return;
    assert.ok(Date.now() < until, `${url}: ${response.status}`);
    await new Promise((done) => setImmediate(done));
  }
}

/** Two nodes over a Redis of their own; what `use` leaves running is stopped. */
async function withCluster(use) {
  await withFolder({}, async (cwd) => {
    const port = await freePort();
    const redis = start('redis-server', ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'], { cwd });
    await redis.line('Ready to accept connections');
    const env = { REDIS_URL: `redis://127.0.0.1:${port}`, NODE_ENV: 'development', LOG_LEVEL: 'info' };
    const nodes = [];
    try {
      for (let n = 0; n < 2; n++) nodes.push(await startServer(env));
      for (const node of nodes) await ready(`${node.url}/health/ready`);
      await use(nodes);
    } finally {
      for (const node of nodes) await node.stop();
      await redis.stop();
    }
  });
}

/** Runs nginx with the configuration of the compose file in front of these nodes. */
async function withNginx(nodes, change, use) {
  const port = await freePort();
  let config = await readFile(NGINX, 'utf8');
  // Addresses need no resolving, which Debian's nginx is too old for.
  nodes.forEach((node, n) => (config = replaced(config, `node-${n + 1}:3001 resolve`, `127.0.0.1:${node.port}`)));
  config = replaced(config, 'listen 80;', `listen 127.0.0.1:${port};`);
  config = replaced(config, '/tmp/nginx.pid', 'nginx.pid');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path tmp-${name};`);
  config = replaced(config, 'access_log off;', `access_log off; ${temporary.join(' ')}`);
  config = change(`daemon off;\n${config}`);
  await withFolder({ 'nginx.conf': config }, async (cwd) => {
    const args = ['-p', cwd, '-c', join(cwd, 'nginx.conf'), '-e', 'stderr'];
    await run('nginx', ['-t', ...args], { cwd });
    const nginx = start('nginx', args, { cwd });
    try {
      await ready(`http://127.0.0.1:${port}/health/ready`);
      await use(`http://127.0.0.1:${port}`);
    } finally {
      await nginx.stop();
    }
  });
}

/** The node that a client is on. */
async function nodeOf(nodes, socket) {
  const id = socket.id.split('.')[0];
  const response = await fetch(`${nodes[0].url}/connections/${id}`);
  assert.equal(response.status, 200);
  return (await response.json()).node;
}

/** A client on each of two nodes: clients come from different addresses, and their address chooses the node. */
async function onBoth(nodes, url, options) {
  const found = new Map();
  for (let last = 2; found.size < 2; last++) {
    assert.ok(last < 60, 'all addresses lead to one node');
    const agent = new Agent({ localAddress: `127.0.0.${last}`, keepAlive: true });
    const socket = await connect({ url }, { agent, ...options });
    const node = await nodeOf(nodes, socket);
    if (found.has(node)) socket.close();
    else found.set(node, socket);
  }
  return [...found.values()];
}

/** Each hears the other, and polls stay with their node. */
async function converse(sockets) {
  for (const socket of sockets) assert.equal((await ask(socket, 'join-room', { roomName: 'lobby' })).success, true);
  for (let n = 0; n < 5; n++) {
    for (const [from, to] of [sockets, [...sockets].reverse()]) {
      assert.equal((await ask(from, 'message', { roomName: 'lobby', n, by: from.id })).success, true);
      const { n: heard, by } = await next(to, 'message-reply');
      assert.deepEqual([heard, by], [n, from.id]);
    }
  }
  for (const socket of sockets) socket.close();
}

test('nginx keeps clients that poll with their nodes, whatever their generation', async () => {
  await withCluster((nodes) => withNginx(nodes, (config) => config, async (url) => {
    assert.equal((await fetch(`${url}/metrics`)).status, 403);
    for (const version of [2, 4]) {
      await converse(await onBoth(nodes, url, { version, transports: ['polling'] }));
      await converse(await onBoth(nodes, url, { version, transports: ['polling', 'websocket'] }));
    }
  }));
});

/** A client on each of two nodes, all from one address. */
async function spread(nodes, url, options) {
  const found = new Map();
  for (let tries = 0; found.size < 2; tries++) {
    assert.ok(tries < 60, 'all clients of one address are on one node');
    // A copy: the client puts the cookie that it got among the headers.
    const socket = await connect({ url }, structuredClone(options));
    const { engine } = socket.io;
    // An upgrade that is cut off counts as a failure of the node.
    if (options.transports.includes('websocket') && engine.transport.name !== 'websocket') await within(new Promise((done) => engine.once('upgrade', done)), () => 'the upgrade');
    const node = await nodeOf(nodes, socket);
    if (found.has(node)) socket.close();
    else found.set(node, socket);
  }
  return [...found.values()];
}

test('websockets need no stickiness', async () => {
  await withCluster((nodes) => withNginx(nodes, (config) => config, async (url) => {
    await converse(await spread(nodes, url, { transports: ['websocket'] }));
  }));
});

test('nginx spreads the pages of one address, each of which keeps its node by a cookie', async () => {
  await withCluster((nodes) => withNginx(nodes, (config) => config, async (url) => {
    // As browsers do for a page of the same origin.
    const page = { withCredentials: true, extraHeaders: { 'sec-fetch-site': 'same-origin' }, multiplex: false };
    await converse(await spread(nodes, url, { ...page, transports: ['polling'] }));
    await converse(await spread(nodes, url, { ...page, transports: ['polling', 'websocket'] }));
    const other = await fetch(`${url}/socket.io/?EIO=4&transport=polling`);
    assert.equal(other.headers.get('set-cookie'), null, 'no cookie for clients that may not keep it');
  }));
});

test('when a node stops its clients come back on another one and recover', async () => {
  await withCluster((nodes) => withNginx(nodes, (config) => config, async (url) => {
    const options = { reconnection: true, reconnectionDelay: 50, transports: ['polling', 'websocket'] };
    const sockets = await onBoth(nodes, url, options);
    const received = new Map(sockets.map((socket) => [socket, []]));
    for (const socket of sockets) {
      let last = {};
      const enter = () =>
        socket.emit('join-room', { roomName: 'log', ...last }, (ack) => (last = { offset: ack.offset, epoch: ack.epoch }));
      socket.on('message-reply', ({ offset }) => {
        last.offset = offset;
        received.get(socket).push(offset);
      });
      socket.on('connect', enter);
      const ack = await ask(socket, 'join-room', { roomName: 'log' });
      last = { offset: ack.offset, epoch: ack.epoch };
    }
    const [stopped, stays] = nodes;
    const send = async (n) => {
      const body = JSON.stringify({ event: 'message-reply', data: { n }, rooms: ['log'] });
      const headers = { 'content-type': 'application/json' };
      const response = await fetch(`${stays.url}/events`, { method: 'POST', headers, body });
      assert.equal(response.status, 201);
    };
    const all = async (count) => {
      const waiting = sockets.filter((socket) => received.get(socket).length < count).map((socket) =>
        new Promise((done) => socket.on('message-reply', () => received.get(socket).length >= count && done())));
      await within(Promise.all(waiting), () => `${count} messages: ${JSON.stringify([...received.values()])}`);
    };
    await send(1);
    await all(1);
    const back = new Promise((done) => sockets.forEach((socket) => socket.io.once('reconnect', done)));
    nodes.shift();
    await stopped.stop();
    for (let n = 2; n <= 5; n++) await send(n);
    await within(back, 'a client that comes back');
    await all(5);
    for (const offsets of received.values()) assert.deepEqual(offsets, [1, 2, 3, 4, 5]);
    for (const socket of sockets) socket.close();
  }));
});

test('HAProxy keeps clients with their nodes by a cookie, or by their address', async () => {
  const text = await example('haproxy-cluster.cfg');
  await withCluster(async (nodes) => {
    const port = await freePort();
    let config = replaced(text, 'bind :80', `bind 127.0.0.1:${port}`);
    nodes.forEach((node, n) => (config = replaced(config, `10.0.0.1${n + 1}:3001`, `127.0.0.1:${node.port}`)));
    await withFolder({ 'haproxy.cfg': config }, async (cwd) => {
      await run('haproxy', ['-c', '-f', 'haproxy.cfg'], { cwd });
      const haproxy = start('haproxy', ['-db', '-f', 'haproxy.cfg'], { cwd });
      const url = `http://127.0.0.1:${port}`;
      try {
        await ready(`${url}/health/ready`);
        assert.equal((await fetch(`${url}/metrics`)).status, 403);
        await converse(await onBoth(nodes, url, { transports: ['polling', 'websocket'] }));
        // As a browser does: the cookie decides, whatever the address.
        const cookie = (await fetch(`${url}/health/live`)).headers.get('set-cookie').split(';')[0];
        const seen = new Set();
        for (let last = 2; last < 12; last++) {
          const agent = new Agent({ localAddress: `127.0.0.${last}`, keepAlive: true });
          const socket = await connect({ url }, { agent, transports: ['polling'], extraHeaders: { cookie } });
          seen.add(await nodeOf(nodes, socket));
          socket.close();
        }
        assert.equal(seen.size, 1);
      } finally {
        await haproxy.stop();
      }
    });
  });
});

const seconds = (text) => Number(/^(\d+)s$/.exec(text)[1]);

test('Kubernetes: the resources fit together and the settings are good', async () => {
  const documents = parseAllDocuments(await example('kubernetes-cluster.yaml'), { strict: true, uniqueKeys: true });
  assert.deepEqual(documents.flatMap(({ errors }) => errors), []);
  const [deployment, service, ingress] = documents.map((document) => document.toJS());
  assert.deepEqual([deployment, service, ingress].map(({ kind }) => kind), ['Deployment', 'Service', 'Ingress']);
  const pod = deployment.spec.template;
  assert.deepEqual(pod.metadata.labels, service.spec.selector);
  assert.deepEqual(pod.metadata.labels, deployment.spec.selector.matchLabels);
  const [container] = pod.spec.containers;
  for (const probe of ['readinessProbe', 'livenessProbe']) {
    assert.equal(container[probe].httpGet.port, container.ports[0].name);
  }
  const { backend } = ingress.spec.rules[0].http.paths[0];
  assert.deepEqual(backend.service, { name: service.metadata.name, port: { name: service.spec.ports[0].name } });
  const settings = Object.fromEntries(container.env.map(({ name, value }) => [name, value]));
  assert.ok(pod.spec.terminationGracePeriodSeconds > seconds(settings.SHUTDOWN_GRACE));
  await withFolder({}, async (cwd) => {
    const output = await run(binary(), ['--check-config'], { cwd, env: { ...settings, REDIS_URL: 'redis://redis:6379' } });
    for (const [name, value] of Object.entries(settings)) assert.ok(output.includes(`${name}=${value}`), output);
  });
});

test('compose: two nodes over one Redis that keeps everything, behind the nginx that names them', async () => {
  const parsed = async (name) => {
    const [document] = parseAllDocuments(await readFile(join(root, name), 'utf8'), { merge: true });
    assert.deepEqual(document.errors, []);
    return document.toJS().services;
  };
  const services = await parsed('docker-compose.cluster.yml');
  const [one] = Object.values(await parsed('docker-compose.yml'));
  const nodes = Object.entries(services).filter(([name]) => name.startsWith('node-'));
  assert.equal(nodes.length, 2);
  const nginx = await readFile(NGINX, 'utf8');
  for (const [name, node] of nodes) {
    assert.ok(nginx.includes(`server ${name}:3001 resolve `), `${name} in nginx.conf`);
    assert.deepEqual(node.environment, nodes[0][1].environment);
    assert.equal(node.read_only, true);
    assert.ok(seconds(node.stop_grace_period) > 10);
    // What one node can be told, each of several can, but for what there is none of.
    const variables = (service) => service.environment.map((entry) => entry.split('=')[0]);
    const missing = variables(one).filter((name) => !variables(node).includes(name));
    assert.deepEqual(missing, ['STORE_URL', 'STORE_SYNC', 'STORE_MAX_BYTES']);
    const [host] = node.environment.find((entry) => entry.startsWith('REDIS_URL=')).match(/(?<=redis:\/\/)[a-z]+/);
    assert.ok(services[host].command.join(' ').includes('--appendonly yes'));
    assert.ok(services[host].command.join(' ').includes('--maxmemory-policy noeviction'));
  }
  assert.ok(services.nginx.volumes.includes('./deploy/nginx.conf:/etc/nginx/nginx.conf:ro'));
});
