// Real clients of socket.io-client 4, and what a story needs to talk with them.
import { io } from 'socket.io-client';
import { within } from '../../../tests/clients/server.mjs';

export { within };

/** What has arrived at a client, in order, and who waits for it. */
const inboxes = new WeakMap();

/** Opens clients, and closes them all at the end of a story. */
export class Clients {
  #url;
  #open = [];

  constructor(url) {
    this.#url = url;
  }

  /** A client of a namespace that is connected, or an error with the server's words. */
  async connect(namespace = '/', auth = {}) {
    const socket = io(this.#url + namespace, { forceNew: true, reconnection: false, transports: ['websocket'], auth });
    this.#open.push(socket);
    const inbox = { events: [], wake: () => {} };
    inboxes.set(socket, inbox);
    socket.onAny((event, ...args) => {
      inbox.events.push({ event, args: args.filter((arg) => typeof arg !== 'function') });
      inbox.wake();
    });
    const connected = new Promise((done, refuse) => socket.once('connect', done).once('connect_error', refuse));
    await within(connected, `a connection to ${namespace}`);
    return socket;
  }

  close() {
    for (const socket of this.#open) socket.close();
  }
}

/** The arguments of the next event of this name; those before it, of other names, are passed over. */
export async function next(socket, event) {
  const inbox = inboxes.get(socket);
  const take = async () => {
    for (;;) {
      const at = inbox.events.findIndex((one) => one.event === event);
      if (at >= 0) return inbox.events.splice(at, 1)[0].args;
      await new Promise((done) => (inbox.wake = done));
    }
  };
  return within(take(), () => `"${event}"; there are ${inbox.events.map((one) => one.event).join(', ') || 'none'}`);
}

/** How many events of this name have come that nobody has taken. */
export const waiting = (socket, event) => inboxes.get(socket).events.filter((one) => one.event === event).length;

/** All arguments of the acknowledgement of an event. */
export const askAll = (socket, event, ...args) =>
  within(new Promise((done) => socket.emit(event, ...args, (...answer) => done(answer))), `the acknowledgement of "${event}"`);

/** The acknowledgement of an event. */
export const ask = async (socket, event, ...args) => (await askAll(socket, event, ...args))[0];

/** Waits until the client is disconnected. */
export const disconnected = (socket) => within(new Promise((done) => (socket.connected ? socket.once('disconnect', done) : done())), 'a disconnect');
