// A server, a network that can be cut, and what stories need to wait for things.
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect as connectTcp, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { io } from 'socket.io-client';
import { startServer, within } from '../../../tests/clients/server.mjs';
import { connect } from '../dist/esm/index.js';

export { within };

/** Reconnects at once, so that stories are short. */
const QUICK = { reconnectionDelay: 10, reconnectionDelayMax: 50, transports: ['websocket'], forceNew: true };

/** A network in front of a server: it can be cut, moved to another server, and made deaf to what the server says. */
async function network(port) {
  const open = new Set();
  const net = { port, isCut: false, isDeaf: false, cutAfter: Infinity };
  const proxy = createServer((near) => {
    if (net.isCut) return near.destroy();
    const far = connectTcp(net.port, '127.0.0.1');
    for (const socket of [near, far]) {
      open.add(socket);
      socket.on('error', () => {}).on('close', () => (open.delete(socket), near.destroy(), far.destroy()));
    }
    near.on('data', (chunk) => far.write(chunk));
    far.on('data', (chunk) => {
      if (net.isDeaf) return;
      near.write(chunk);
      net.cutAfter -= chunk.length;
      if (net.cutAfter > 0) return;
      net.cutAfter = Infinity;
      net.drop();
    });
  });
  await once(proxy.listen(0, '127.0.0.1'), 'listening');
  net.url = `http://127.0.0.1:${proxy.address().port}`;
  /** Connections break; new ones may come. */
  net.drop = () => open.forEach((socket) => socket.destroy());
  net.cut = () => {
    net.isCut = true;
    net.drop();
  };
  net.restore = () => (net.isCut = false);
  net.close = () => {
    net.cut();
    proxy.close();
  };
  return net;
}

/** Tells a story: a server, the network in front of it, and clients that are closed at its end. */
export function story(name, env, tell) {
  if (typeof env === 'function') [env, tell] = [{}, env];
  test(name, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'roomcast-client-'));
    const settings = { RATE_LIMIT_EVENTS: '0', STORE_URL: `sqlite:${folder}/roomcast.db`, ...env };
    const ends = [];
    const world = { server: await startServer(settings) };
    world.net = await network(world.server.port);
    /** A client of the package, behind the network. */
    world.client = (options = {}) => {
      const client = connect(world.net.url, { ...options, socket: { ...QUICK, ...options.socket } });
      ends.push(() => client.close());
      return client;
    };
    /** A plain socket, beside the network. */
    world.plain = async (options = {}) => {
      const socket = io(world.server.url, { ...QUICK, ...options });
      ends.push(() => socket.close());
      await within(once(socket, 'connect'), 'a plain socket');
      return socket;
    };
    /** The server dies and comes back, with its store if it has one. */
    world.crash = async () => {
      await world.server.kill();
      world.server = await startServer(settings);
      world.net.port = world.server.port;
    };
    try {
      await tell(world);
    } catch (error) {
      t.diagnostic(`the server's log ended with:\n${world.server.tail()}`);
      throw error;
    } finally {
      ends.forEach((end) => end());
      world.net.close();
      await world.server.kill();
      await rm(folder, { recursive: true, force: true });
    }
  });
}

/** Emits and waits for the acknowledgement. */
export const ask = (socket, event, payload) =>
  within(new Promise((done) => socket.emit(event, payload, done)), `the acknowledgement of "${event}"`);

/** Sends numbered messages to a room, many at a time; answers their acknowledgements. */
export async function write(socket, roomName, from, to) {
  const acks = [];
  for (let n = from; n <= to; n++) acks.push(ask(socket, 'message', { roomName, n }));
  return Promise.all(acks);
}

/** Everything that listeners are told, in order; `until(count)` waits. */
export function log() {
  const entries = [];
  let waiting = [];
  return {
    entries,
    add(entry) {
      entries.push(entry);
      waiting = waiting.filter(({ test, done }) => !test(entries) || done());
    },
    until(wanted, what = 'what is awaited') {
      const test = typeof wanted === 'number' ? (all) => all.length >= wanted : wanted;
      if (test(entries)) return Promise.resolve(entries);
      const arrival = new Promise((done) => waiting.push({ test, done: () => void done(entries) }));
      return within(arrival, () => `${what}; so far ${entries.length}: ${JSON.stringify(entries.slice(-5))}`, 20_000);
    },
  };
}

/** The next time that a client or a room tells of this state. */
export const state = (subject, name) =>
  within(
    new Promise((done) => {
      const off = subject.when(name, (...args) => {
        off();
        done(args.length > 1 ? args : args[0]);
      });
    }),
    `"${name}"`,
  );

export const range = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => from + index);
