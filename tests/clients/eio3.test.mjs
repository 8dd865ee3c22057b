// What is particular to Engine.IO 3: a query for each namespace, and the two encodings of polling.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { ask, connected, next } from './client.mjs';
import { DEADLINE_MS, emitted, within } from './server.mjs';
import { assertFields, story } from './story.mjs';
import { SECRET, sign } from './token.mjs';

const AUTH = { JWT_SECRET: SECRET };

const token = (sub) => sign({ sub, name: `name of ${sub}` });

/** The parser that clients of generation 2 have inside. */
const parser = ['engine.io-client', 'engine.io-parser'].reduce(
  (require, name) => (name === 'engine.io-parser' ? require(name) : createRequire(require.resolve(name))),
  createRequire(createRequire(import.meta.url).resolve('socket.io-client-2')),
);

for (const [version, transports] of [
  [2, ['websocket']],
  [2, ['polling']],
  [2, ['polling', 'websocket']],
  [1, ['websocket']],
]) {
  story(`v${version}, ${transports}: each namespace has its own token`, AUTH, async ({ connect }) => {
    const first = await connect({ version, transports, query: `token=${token('first')}` });
    assertFields(await ask(first, 'join-room', 'r'), { success: true, clientName: 'name of first' }, []);
    const { engine } = first.io;
    if (engine.transport.name !== transports.at(-1)) await emitted(engine, 'upgrade');

    // One connection carries both; its URL has the token of the first.
    const second = first.io.socket('/chat', { query: `token=${token('second')}&more=%2C%3F` });
    await connected(second);
    assertFields(await ask(second, 'join-room', 'r'), { success: true, clientName: 'name of second' }, []);
    second.close();
  });
}

story('a namespace of generation 2 may be the only one with a token', { ...AUTH, AUTH_REQUIRED: 'false' }, async ({ connect }) => {
  const first = await connect({ version: 2 });
  assertFields(await ask(first, 'join-room', 'r'), { success: true, clientName: 'anonymous' }, []);
  const second = first.io.socket('/chat', { query: { token: token('second') } });
  await connected(second);
  assertFields(await ask(second, 'join-room', 'r'), { success: true, clientName: 'name of second' }, []);
  second.close();
});

story('generation 2 hears in its namespace why its token is bad', AUTH, async ({ connect }) => {
  const first = await connect({ version: 2, query: { token: token('first') } });
  const second = first.io.socket('/chat', { query: { token: 'nonsense' } });
  await assert.rejects(connected(second), ({ message }) => !/namespace|nonsense/i.test(message));
  second.close();
});

// In Node, the client asks for base64; in a browser it takes bytes, and sends them.
story('generation 2 polls as it does in a browser', AUTH, async ({ server, connect }) => {
  const other = await connect({ namespace: '/chat', auth: { token: token('other') } });
  const url = `${server.url}/socket.io/?EIO=3&transport=polling&token=${token('url')}`;
  const poll = async (session = '') => {
    const response = await fetch(`${url}${session}`, { signal: AbortSignal.timeout(DEADLINE_MS) });
    assert.equal(response.status, 200);
    const bytes = Buffer.from(await response.arrayBuffer());
    const packets = [];
    const binary = response.headers.get('content-type') === 'application/octet-stream';
    parser.decodePayload(binary ? bytes : bytes.toString(), 'nodebuffer', (packet) => {
      packets.push(packet);
    });
    return packets;
  };
  const send = async (session, ...data) => {
    const packets = data.map((item) => ({ type: 'message', data: item }));
    const body = await new Promise((done) => {
      parser.encodePayloadAsBinary(packets, (error, payload) => done(payload ?? error));
    });
    const headers = { 'content-type': 'application/octet-stream' };
    const response = await fetch(`${url}${session}`, { method: 'POST', body, headers });
    assert.equal(response.status, 200);
  };
  const [open] = await poll();
  const session = `&sid=${JSON.parse(open.data).sid}`;

  await send(session, `0/chat?token=${token('browser')},`);
  const heard = [];
  const until = (match) =>
    within(
      (async () => {
        for (;;) {
          const at = heard.findIndex(({ data }) => match(data));
          if (at >= 0) return heard.splice(0, at + 1).at(-1).data;
          heard.push(...(await poll(session)));
        }
      })(),
      'a packet by polling',
    );
  assert.equal(await until((data) => String(data).startsWith('0')), '0'); // `/` itself, by the URL's token.
  await until((data) => data === '0/chat,');
  await send(session, '2/chat,1["join-room","files"]');
  assert.match(await until((data) => String(data).startsWith('3/chat,1')), /"clientName":"name of browser"/);

  const file = Buffer.from([0, 255, 4, 98]);
  await ask(other, 'join-room', 'files');
  await ask(other, 'message', { roomName: 'files', file, text: 'é𝕊' });
  await until((data) => String(data).startsWith('51-/chat,["message-reply"'));
  assert.deepEqual(await until(() => true), file);

  await send(session, '51-/chat,["message",{"roomName":"files","file":{"_placeholder":true,"num":0}}]', file);
  assert.deepEqual((await next(other, 'message-reply', ({ text }) => !text)).file, file);
});
