// Real Socket.IO clients, and what a story needs to talk with them: wait for an event, ask for an ack.
import assert from 'node:assert/strict';
import io1 from 'socket.io-client-1';
import io2 from 'socket.io-client-2';
import { io as io3 } from 'socket.io-client-3';
import { io as io4 } from 'socket.io-client-4';
import { io as io46 } from 'socket.io-client-4.6';
import { within } from './server.mjs';

const generations = { 1: io1, 2: io2, 3: io3, 4: io4, 4.6: io46 };

/** Per socket: everything that arrived, in order, and who waits for what. */
const inboxes = new WeakMap();

/**
 * Opens a client without waiting for it. `version` is the generation of socket.io-client; everything else
 * goes to it as it is. Every event that arrives is recorded from the first one on.
 */
export function open(server, { version = 4, namespace = '/', ...options } = {}) {
  const socket = generations[version](server.url + namespace, {
    forceNew: true,
    reconnection: false,
    transports: ['websocket'],
    ...options,
  });
  const inbox = { arrived: [], waiting: [], faults: [] };
  inboxes.set(socket, inbox);
  const record = (event, ...args) => {
    // rxjs' fromEvent, and so every ngx-socket-io application, turns two arguments into an array. The function that
    // acknowledges comes from the client, and only where it was asked to. Where connections are recovered, an offset follows.
    const offset = socket._pid && typeof args.at(-1) === 'string' ? 1 : 0;
    const count = args.filter((arg) => typeof arg !== 'function').length - offset;
    if (count !== 1) inbox.faults.push(`"${event}" carried ${count} arguments, not one`);
    inbox.arrived.push({ event, data: args[0], taken: false });
    for (const waiter of [...inbox.waiting]) waiter();
  };
  if (version <= 2) {
    // The old generations have no onAny; wrapping onevent is how their applications catch all events.
    const onevent = socket.onevent;
    socket.onevent = (packet) => {
      record(...packet.data);
      onevent.call(socket, packet);
    };
  } else {
    socket.onAny(record);
  }
  return socket;
}

/** Opens a client and waits until it is connected; a refusal rejects with the server's message. */
export async function connect(server, options) {
  const socket = open(server, options);
  try {
    await connected(socket);
  } catch (error) {
    socket.close();
    throw error;
  }
  return socket;
}

/** Resolves once the socket is connected, rejects with the message of the refusal. */
export function connected(socket) {
  if (socket.connected) return Promise.resolve();
  const outcome = new Promise((done, failed) => {
    const refused = (reason) => failed(new Error(typeof reason === 'string' ? reason : reason.message));
    socket.once('connect', done);
    socket.once('connect_error', refused);
    // The old generations tell a refusal by the namespace as `error`; later ones never emit it before `connect`.
    socket.once('error', refused);
  });
  return within(outcome, 'a connection');
}

/** Resolves once the socket is disconnected, with the reason. */
export function disconnected(socket) {
  if (socket.disconnected) return Promise.resolve('already');
  return within(new Promise((done) => socket.once('disconnect', done)), 'a disconnect');
}

/**
 * The next event of that name that no `next` has returned yet, and that `match` accepts. Without `match` it
 * is strictly the next: what came before it can be excluded by looking at what it is.
 */
export function next(socket, event, match = () => true) {
  const inbox = inboxes.get(socket);
  const take = () => {
    const found = inbox.arrived.find((entry) => !entry.taken && entry.event === event && match(entry.data));
    if (found) found.taken = true;
    return found;
  };
  const found = take();
  if (found) return Promise.resolve(found.data);
  let waiter;
  const arrival = new Promise((done) => {
    waiter = () => {
      const entry = take();
      if (!entry) return;
      inbox.waiting.splice(inbox.waiting.indexOf(waiter), 1);
      done(entry.data);
    };
    inbox.waiting.push(waiter);
  });
  const sofar = () => inbox.arrived.map((entry) => entry.event).join(', ') || 'nothing';
  return within(arrival, () => `"${event}"; so far arrived: ${sofar()}`);
}

/** The next `count` events of that name. */
export async function several(socket, event, count) {
  const events = [];
  while (events.length < count) events.push(await next(socket, event));
  return events;
}

/** All events of that name that have arrived so far; none is taken. */
export function arrived(socket, event) {
  return inboxes.get(socket).arrived.filter((entry) => entry.event === event).map((entry) => entry.data);
}

/** The names of all events that have arrived at this socket and that `next` has not returned. */
export function untaken(socket) {
  return inboxes.get(socket).arrived.filter((entry) => !entry.taken).map((entry) => entry.event);
}

/** Emits and waits for the acknowledgement. */
export function ask(socket, event, ...args) {
  return within(
    new Promise((done) => socket.emit(event, ...args, done)),
    `the acknowledgement of "${event}"`,
  );
}

/** Fails if any event broke the rule of one argument. */
export function assertOneArgumentEach(socket) {
  assert.deepEqual(inboxes.get(socket).faults, []);
}

/** The object without the `offset` that the server adds inside while history is on; key order is kept. */
export function withoutOffset({ offset: _, ...rest }) {
  return rest;
}
