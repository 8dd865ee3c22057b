// A story: one test with its own server and its own clients, all of which are gone when it ends.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertOneArgumentEach, ask, connect, open } from './client.mjs';
import { withServer } from './server.mjs';

/**
 * Tells one story against a server of its own. `tell` gets `{server, open, connect, member}`; what it opens
 * is closed for it, and the server must then end cleanly.
 */
export function story(name, env, tell) {
  if (typeof env === 'function') [env, tell] = [{}, env];
  test(name, async (t) => {
    const sockets = [];
    const kept = (socket) => {
      sockets.push(socket);
      return socket;
    };
    const told = async (server) => {
      const world = {
        server,
        open: (options, at = server) => kept(open(at, options)),
        connect: async (options) => kept(await connect(server, options)),
        /** A connected client that has joined the room. */
        async member(roomName, options) {
          const socket = await world.connect(options);
          assert.equal((await ask(socket, 'join-room', { roomName })).success, true);
          return socket;
        },
      };
      await tell(world);
      sockets.forEach(assertOneArgumentEach);
    };
    const close = () => sockets.forEach((socket) => socket.close());
    await withServer(env, told, close, (message) => t.diagnostic(message));
  });
}

/** Asserts that a value is a time stamp as JavaScript's toISOString() writes it. */
export function assertTimestamp(value) {
  assert.equal(typeof value, 'string');
  assert.equal(new Date(value).toISOString(), value);
}

/**
 * Asserts that `actual` has these fields with these values (more are allowed), and that each field named in
 * `timestamps` is a time stamp.
 */
export function assertFields(actual, expected, timestamps = ['timestamp']) {
  assert.ok(actual && typeof actual === 'object', `an object was expected, not ${JSON.stringify(actual)}`);
  const picked = Object.fromEntries(Object.keys(expected).map((key) => [key, actual[key]]));
  assert.deepEqual(picked, expected);
  for (const key of timestamps) assertTimestamp(actual[key]);
}
