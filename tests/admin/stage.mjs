// What the stories in this folder have in common: a server with the Admin UI on, and clients of both kinds.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { io } from 'socket.io-client';
import { DEADLINE_MS, binary, within, withServer } from '../clients/server.mjs';

export const USERNAME = 'operator';
export const PASSWORD = 'correct horse battery staple';

/** The hash as the server's own command makes it. */
const hash = () =>
  execFileSync(binary(), ['hash-password'], { input: `${PASSWORD}\n`, encoding: 'utf8' }).trim();

/**
 * Tells a story against a server of its own. `tell` gets `{server, connect, enter}`; the sockets it opens are closed
 * for it, and the server must then end cleanly.
 */
export async function against(env, tell) {
  const sockets = [];
  const told = (server) => {
    const open = (namespace, options) => {
      const socket = io(`${server.url}${namespace}`, { forceNew: true, reconnection: false, ...options });
      // From the first packet on: what comes right behind the CONNECT packet must not be missed.
      socket.heard = [];
      socket.onAny((event, ...args) => socket.heard.push({ event, args }));
      sockets.push(socket);
      return socket;
    };
    return tell({
      server,
      /** A connected client. */
      connect: (namespace = '/', options = {}) => connected(open(namespace, options)),
      /** An operator, or the error that kept it out. */
      enter: (auth = { username: USERNAME, password: PASSWORD }) => connected(open('/admin', { auth })),
    });
  };
  const close = () => sockets.forEach((socket) => socket.close());
  await withServer({ ADMIN_USERNAME: USERNAME, ADMIN_PASSWORD: hash(), ...env }, told, close, console.error);
}

const connected = (socket) =>
  within(
    new Promise((done, failed) => {
      socket.once('connect', () => done(socket));
      socket.once('connect_error', failed);
    }),
    'the connection',
  );

/** The arguments of the first event of this name that `wanted` accepts, whether it has come already or not. */
export function heard(socket, name, wanted = () => true) {
  const found = () => socket.heard.find(({ event, args }) => event === name && wanted(...args));
  const waiting = new Promise((done) => {
    if (found()) return done(found().args);
    socket.onAny(() => found() && done(found().args));
  });
  const said = () => `"${name}"; there came ${JSON.stringify(socket.heard.map(({ event }) => event))}`;
  return within(waiting, said, DEADLINE_MS);
}

/** Emits and answers the ack. */
export const ask = (socket, event, ...args) =>
  within(new Promise((done) => socket.emit(event, ...args, done)), `the ack of ${event}`);

export function assertTimestamp(value) {
  assert.equal(new Date(value).toISOString(), value);
}
