// The first steps in each world, as the documents print them.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import WebSocket from 'ws';
import { ask, next } from '../clients/client.mjs';
import { DEADLINE_MS, post, within } from '../clients/server.mjs';
import { story } from '../clients/story.mjs';
import { example, python, replaced, root, start, withFolder } from './examples.mjs';

let browser;
before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'],
  });
});
after(() => browser.close());

const types = { html: 'text/html', js: 'text/javascript' };

/** Opens a page of these files, and holds a short conversation with it. */
async function converse({ server, member }, files) {
  // From an origin of its own; a page that is made up by the browser may not speak to this machine.
  const site = createServer((request, response) => {
    const name = request.url.slice(1) || 'index.html';
    response.writeHead(name in files ? 200 : 404, { 'content-type': types[name.split('.').pop()] ?? 'text/plain' });
    response.end(files[name]);
  });
  await once(site.listen(0, '127.0.0.1'), 'listening');
  const context = await browser.newContext();
  context.setDefaultTimeout(DEADLINE_MS);
  try {
    const page = await context.newPage();
    const faults = [];
    page.on('pageerror', (error) => faults.push(error.message));
    const other = await member('lobby');
    await page.goto(`http://127.0.0.1:${site.address().port}/`);
    await page.locator('#status', { hasText: 'in lobby' }).waitFor();
    await ask(other, 'message', { roomName: 'lobby', from: 'Bob', text: 'Hi' });
    await page.getByText('Bob: Hi').waitFor();
    await page.getByLabel('Message').fill('Hello');
    await page.getByRole('button', { name: 'Send' }).click();
    await page.getByText('Ada: Hello').waitFor();
    assert.equal((await next(other, 'message-reply')).text, 'Hello');
    assert.equal(await page.locator('#messages li').count(), 2);
    // A connection that the server ends is made anew, and is in its room again.
    const room = await (await fetch(`${server.url}/rooms/lobby`)).json();
    const { clientId } = room.members.find(({ clientName }) => clientName === 'Ada');
    assert.equal((await fetch(`${server.url}/connections/${clientId}`, { method: 'DELETE' })).status, 204);
    await next(other, 'user-joined', ({ socketId }) => socketId !== clientId);
    assert.deepEqual(faults, []);
    return await page.evaluate(() => document.title);
  } finally {
    await context.close();
    site.closeAllConnections();
    site.close();
  }
}

const open = { NODE_ENV: 'development' };

story('plain JavaScript, in a browser', open, async (world) => {
  const dist = join(root, 'tests/docs/node_modules/socket.io-client/dist');
  const title = await converse(world, {
    'index.html': await example('javascript/index.html'),
    'lobby.js': replaced(await example('javascript/lobby.js'), 'http://localhost:3001', world.server.url),
    'socket.io.esm.min.js': await readFile(join(dist, 'socket.io.esm.min.js'), 'utf8'),
  });
  assert.equal(title, 'Lobby');
});

story('React, in a browser', open, async (world) => {
  const main = replaced(await example('react/main.tsx'), 'http://localhost:3001', world.server.url);
  const files = { 'main.tsx': main, 'use-room.ts': await example('react/use-room.ts') };
  const bundle = await withFolder(files, async (folder) => {
    const built = await build({
      entryPoints: [join(folder, 'main.tsx')],
      bundle: true,
      write: false,
      jsx: 'automatic',
      define: { 'process.env.NODE_ENV': '"development"' },
    });
    return built.outputFiles[0].text;
  });
  const page = '<!doctype html><title>React</title><div id="root"></div><script src="main.js"></script>';
  await converse(world, { 'index.html': page, 'main.js': bundle });
});

story('Python', async ({ server }) => {
  const code = replaced(await example('hello.py'), 'http://localhost:3001', server.url);
  await withFolder({ 'hello.py': code }, async (folder) => {
    const program = start(python(), ['hello.py'], { cwd: folder });
    await program.line('joined: lobby');
    const { status } = await post(server, '/messages/broadcast', {
      id: '8f14e45f-ceea-467f-a0e6-1b1d2c3d4e5f',
      clientId: 'backend',
      clientName: 'Backend',
      roomName: 'lobby',
      messageType: 'text',
      message: 'Hello',
      timestamp: '2026-01-01T12:00:00.000Z',
    });
    assert.equal(status, 201);
    await program.line('received: Hello');
    assert.equal((await program.end()).code, 0);
  });
});

story('the protocol, line by line', async ({ server }) => {
  const socket = new WebSocket(`${server.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`);
  const arrived = [];
  let wake = () => {};
  socket.on('message', (data) => {
    // The pings between are not part of the conversation.
    if (String(data) === '2') return socket.send('3');
    arrived.push(String(data));
    wake();
  });
  const line = async () => {
    while (arrived.length === 0) await within(new Promise((done) => (wake = done)), 'a packet');
    return arrived.shift();
  };
  const transcript = (await example('transcript')).trimEnd().split('\n');
  assert.ok(transcript.length > 10);
  for (const entry of transcript) {
    const text = entry.slice(2);
    if (entry.startsWith('> ')) {
      socket.send(text);
      continue;
    }
    assert.ok(entry.startsWith('< '), entry);
    const pattern = text.split('…').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('[^"]+');
    assert.match(await line(), new RegExp(`^${pattern}$`));
  }
  socket.close();
  await within(once(socket, 'close'), 'the close');
});
