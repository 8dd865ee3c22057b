// The configurations of proxies and orchestrators: checked by the programs themselves, and proxied through once.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { io } from 'socket.io-client';
import { parseAllDocuments } from 'yaml';
import { ask, connect, next } from '../clients/client.mjs';
import { startServer, within } from '../clients/server.mjs';
import { story } from '../clients/story.mjs';
import { binary, example, freePort, replaced, root, run, start, withFolder } from './examples.mjs';

const LOCAL = '127.0.0.1:3001';

/** Waits until something answers at this address. */
async function reachable(url) {
  const until = Date.now() + 10_000;
  for (;;) {
    try {
      return await fetch(url);
    } catch (error) {
      if (Date.now() > until) throw error;
      await new Promise((done) => setImmediate(done));
    }
  }
}

/** What a browser does through a proxy: polling that is upgraded, websocket, HTTP; and figures stay inside. */
async function through(port, member) {
  const url = `http://127.0.0.1:${port}`;
  assert.equal((await reachable(`${url}/health/ready`)).status, 200);
  assert.equal((await fetch(`${url}/metrics`)).status, 403);
  const other = await member('lobby');
  for (const transports of [['websocket'], ['polling', 'websocket']]) {
    const socket = await connect({ url }, { transports });
    try {
      if (transports.length > 1 && socket.io.engine.transport.name !== 'websocket') {
        await within(new Promise((done) => socket.io.engine.once('upgrade', done)), 'the upgrade to websocket');
      }
      assert.equal((await ask(socket, 'join-room', { roomName: 'lobby' })).success, true);
      await ask(other, 'message', { roomName: 'lobby', text: 'Hello' });
      assert.equal((await next(socket, 'message-reply')).text, 'Hello');
      const large = 'x'.repeat(900_000);
      await ask(socket, 'message', { roomName: 'lobby', text: large });
      assert.equal((await next(other, 'message-reply')).text, large);
    } finally {
      socket.close();
    }
  }
}

/** The files of an nginx whose one site is this. */
function nginxFiles(site) {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  const main = `daemon off;
pid nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    ${temporary.map((name) => `${name}_temp_path tmp-${name};`).join('\n    ')}
    include site.conf;
}
`;
  return { 'site.conf': site, 'nginx.conf': main };
}

const nginxArgs = (cwd) => ['-p', cwd, '-c', join(cwd, 'nginx.conf'), '-e', 'stderr'];

story('nginx', async ({ server, member }) => {
  const port = await freePort();
  let site = await example('nginx.conf');
  site = replaced(replaced(site, LOCAL, `127.0.0.1:${server.port}`), 'listen 80;', `listen 127.0.0.1:${port};`);
  await withFolder(nginxFiles(site), async (cwd) => {
    const args = nginxArgs(cwd);
    await run('nginx', ['-t', ...args], { cwd });
    const nginx = start('nginx', args, { cwd });
    try {
      await through(port, member);
    } finally {
      await nginx.stop();
    }
  });
});

story('a rollout beside an old gateway, by the path', { SOCKET_PATH: '/realtime' }, async ({ server }) => {
  const [port, oldPort] = [await freePort(), await freePort()];
  let site = await example('rollout.nginx.conf');
  site = replaced(site, LOCAL, `127.0.0.1:${server.port}`);
  site = replaced(site, '127.0.0.1:3000', `127.0.0.1:${oldPort}`);
  site = replaced(site, 'listen 80;', `listen 127.0.0.1:${port};`);
  await withFolder({ 'old.mjs': await example('before-server.mjs'), ...nginxFiles(site) }, async (cwd) => {
    const old = start(process.execPath, ['old.mjs'], { cwd, env: { PORT: String(oldPort) } });
    const nginx = start('nginx', nginxArgs(cwd), { cwd });
    try {
      await reachable(`http://127.0.0.1:${oldPort}/`);
      await reachable(`http://127.0.0.1:${port}/`);
      const url = `http://127.0.0.1:${port}`;
      const moved = await connect({ url }, { path: '/realtime' });
      assert.equal((await ask(moved, 'join-room', { roomName: 'lobby' })).success, true);
      const others = io(url, { forceNew: true });
      await within(new Promise((done) => others.emit('join', 'lobby', done)), 'the old gateway behind the proxy');
      moved.close();
      others.close();
    } finally {
      await nginx.stop();
      await old.stop();
    }
  });
});

story('HAProxy', async ({ server, member }) => {
  const port = await freePort();
  let config = await example('haproxy.cfg');
  config = replaced(replaced(config, LOCAL, `127.0.0.1:${server.port}`), 'bind :80', `bind 127.0.0.1:${port}`);
  await withFolder({ 'haproxy.cfg': config }, async (cwd) => {
    await run('haproxy', ['-c', '-f', 'haproxy.cfg'], { cwd });
    const haproxy = start('haproxy', ['-db', '-f', 'haproxy.cfg'], { cwd });
    try {
      await through(port, member);
    } finally {
      await haproxy.stop();
    }
  });
});

const seconds = (text) => Number(/^(\d+)s$/.exec(text)[1]);

story('Kubernetes: the resources fit together and the probes are answered', async ({ server }) => {
  const documents = parseAllDocuments(await example('kubernetes.yaml'), { strict: true, uniqueKeys: true });
  assert.deepEqual(documents.flatMap(({ errors }) => errors), []);
  const [claim, deployment, service] = documents.map((document) => document.toJS());
  assert.deepEqual([claim, deployment, service].map(({ kind }) => kind), ['PersistentVolumeClaim', 'Deployment', 'Service']);
  const pod = deployment.spec.template;
  assert.deepEqual(pod.metadata.labels, service.spec.selector);
  assert.deepEqual(pod.metadata.labels, deployment.spec.selector.matchLabels);
  assert.equal(pod.spec.volumes[0].persistentVolumeClaim.claimName, claim.metadata.name);
  const [container] = pod.spec.containers;
  for (const probe of ['startupProbe', 'readinessProbe', 'livenessProbe']) {
    const { path, port } = container[probe].httpGet;
    assert.equal(port, container.ports[0].name);
    assert.equal((await fetch(`${server.url}${path}`)).status, 200);
  }
  const settings = Object.fromEntries(container.env.map(({ name, value }) => [name, value]));
  assert.ok(pod.spec.terminationGracePeriodSeconds > seconds(settings.SHUTDOWN_GRACE));
  await withFolder({}, async (cwd) => {
    const output = await run(binary(), ['--check-config'], { cwd, env: settings });
    for (const [name, value] of Object.entries(settings)) assert.ok(output.includes(`${name}=${value}`), output);
  });
});

test('compose: it is YAML, its image is built here, and it waits for the drain', async () => {
  const [document] = parseAllDocuments(await readFile(join(root, 'docker-compose.yml'), 'utf8'));
  assert.deepEqual(document.errors, []);
  const { roomcast } = document.toJS().services;
  assert.equal(roomcast.read_only, true);
  assert.ok(seconds(roomcast.stop_grace_period) > 10);
});

test('a backup of a running server, restored', async () => {
  const scripts = { 'backup.sh': await example('backup.sh'), 'restore.sh': await example('restore.sh') };
  await withFolder(scripts, async (cwd) => {
    await mkdir(join(cwd, 'data'));
    const env = { STORE_URL: `sqlite:${join(cwd, 'data/roomcast.db')}` };
    const say = async (server, texts) => {
      const socket = await connect(server);
      const { epoch } = await ask(socket, 'join-room', 'lobby');
      for (const text of texts) assert.equal((await ask(socket, 'message', { roomName: 'lobby', text })).success, true);
      socket.close();
      return epoch;
    };
    const first = await startServer(env);
    const epoch = await say(first, ['one', 'two']);
    await run('bash', ['backup.sh'], { cwd });
    await say(first, ['three']);
    await first.stop();

    await run('bash', ['restore.sh'], { cwd });
    const second = await startServer(env);
    try {
      const socket = await connect(second);
      // Three messages were known; the third is gone, and another one gets its number.
      await say(second, ['another']);
      const ack = await ask(socket, 'join-room', { roomName: 'lobby', offset: 3, epoch });
      assert.equal(ack.recovered, false);
      assert.notEqual(ack.epoch, epoch);
      await ask(socket, 'syncMessages', { roomId: 'lobby' });
      const texts = [];
      while (texts.length < 3) texts.push((await next(socket, 'message-reply')).text);
      assert.deepEqual(texts, ['one', 'two', 'another']);
      socket.close();
    } finally {
      await second.stop();
    }
  });
});
