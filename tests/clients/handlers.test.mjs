// Events of an application's own, answered by its backend: acknowledgements with several arguments, binary both ways, and effects.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import { arrived, connect, next } from './client.mjs';
import { within, withServer } from './server.mjs';

const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';

/** A backend that answers each request with what `answer` makes of it, if the signature is right. */
async function startBackend(answer) {
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    try {
      new Webhook(secret).verify(body, request.headers);
      response.setHeader('content-type', 'application/json').end(JSON.stringify(answer(JSON.parse(body))));
    } catch (error) {
      response.writeHead(401).end(JSON.stringify({ message: `wrong signature: ${error.message}` }));
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}

/** Emits, and waits for all arguments of the acknowledgement. */
const askAll = (socket, event, ...args) =>
  within(new Promise((done) => socket.emit(event, ...args, (...answer) => done(answer))), `the acknowledgement of ${event}`);

for (const version of [4, 3, 2]) {
  for (const transport of ['websocket', 'polling']) {
    test(`generation ${version} by ${transport}: several arguments, and binary both ways`, async (t) => {
      const asked = [];
      const backend = await startBackend((request) => {
        asked.push(request);
        const [first, ...rest] = request.args;
        if (request.event === 'refused') return { error: { message: 'no', code: 'mine', data: { n: 1 } } };
        return { ack: [rest.length, first, { $binary: 'AAH/' }], emit: [{ event: 'several', args: [1, { b: { $binary: '/w==' } }] }] };
      });
      t.after(backend.close);
      const sockets = [];
      const tell = async (server) => {
        const socket = await connect(server, { version, transports: [transport] });
        sockets.push(socket);
        const several = within(new Promise((done) => socket.on('several', (...args) => done(args))), 'several');
        const [count, echo, bytes] = await askAll(socket, 'upload', { file: Buffer.from([1, 2, 255]), name: 'ä' }, 'x', [Buffer.from('abc')]);
        assert.equal(count, 2);
        assert.deepEqual(Buffer.from(echo.file), Buffer.from([1, 2, 255]));
        assert.equal(echo.name, 'ä');
        assert.deepEqual(Buffer.from(bytes), Buffer.from([0, 1, 255]));
        assert.deepEqual(asked[0].args.slice(1), ['x', [{ $binary: 'YWJj' }]]);
        const [one, two] = await several;
        assert.equal(one, 1);
        assert.deepEqual(Buffer.from(two.b), Buffer.from([255]));

        // What only looks like binary is what it was.
        const odd = { $binary: 'AA==' };
        assert.deepEqual((await askAll(socket, 'odd', odd))[1], odd);
        assert.deepEqual(asked[1].args, [{ $literal: odd }]);

        const [refusal] = await askAll(socket, 'refused', 1);
        assert.deepEqual(refusal, { success: false, message: 'no', code: 'mine', data: { n: 1 } });
      };
      const env = { HANDLER_URL: backend.url, HANDLER_SECRET: secret };
      await withServer(env, tell, () => sockets.forEach((socket) => socket.close()), (message) => t.diagnostic(message));
    });
  }
}

test('what an answer brings about reaches clients wherever they are', async (t) => {
  // Who joins, and whom it tells, are the backend's to say. With two nodes, every other client is on the other one.
  const answers = {
    enter: ({ args: [room] }) => ({ join: [room], silent: true, ack: [room] }),
    tell: ({ args: [target] }) => ({ emit: [{ event: 'told', data: { target: Object.keys(target)[0] }, volatile: true, ...target }], ack: ['told'] }),
  };
  const backend = await startBackend((request) => {
    if (request.type === 'connect') return { client: { userId: request.handshake.auth.name } };
    return answers[request.event](request);
  });
  t.after(backend.close);
  const sockets = [];
  const tell = async (server) => {
    const client = async (name) => {
      const socket = await connect(server, { auth: { name } });
      sockets.push(socket);
      return socket;
    };
    const [ann, bob, cid, dan] = [await client('ann'), await client('bob'), await client('cid'), await client('dan')];
    for (const one of [bob, cid]) assert.deepEqual(await askAll(one, 'enter', 'tea'), ['tea']);
    const told = async (who, target, expected) => {
      assert.deepEqual(await askAll(ann, 'tell', target), ['told']);
      for (const one of who) assert.deepEqual(await next(one, 'told'), { target: expected });
    };
    await told([bob, cid], { rooms: ['tea'] }, 'rooms');
    await told([cid], { rooms: ['tea'], except: { users: ['bob'] } }, 'rooms');
    await told([bob, cid, dan], { users: ['bob', 'cid', 'dan'] }, 'users');
    await told([dan], { clients: [dan.id] }, 'clients');
    await told([ann, bob, cid, dan], { everyone: true }, 'everyone');
    for (const [one, count] of [[ann, 1], [bob, 3], [cid, 4], [dan, 3]]) assert.equal(arrived(one, 'told').length, count);
  };
  const env = { HANDLER_URL: backend.url, HANDLER_SECRET: secret, HANDLER_CONNECT: 'true' };
  await withServer(env, tell, () => sockets.forEach((socket) => socket.close()), (message) => t.diagnostic(message));
});
