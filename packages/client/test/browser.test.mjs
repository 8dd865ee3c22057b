// The package in a real browser, on an origin of its own: thousands of messages both ways while the connection breaks and the server dies.
import assert from 'node:assert/strict';
import { createReadStream } from 'node:fs';
import { createServer } from 'node:http';
import { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { range, story, within, write } from './world.mjs';

const files = {
  '/socket.io.js': fileURLToPath(new URL('../node_modules/socket.io-client/dist/socket.io.esm.min.js', import.meta.url)),
  '/client/': fileURLToPath(new URL('../dist/esm/', import.meta.url)),
};

const page = `<!doctype html><title>client</title>
<script type="importmap">{"imports": {"socket.io-client": "/socket.io.js", "@roomcast/client": "/client/index.js"}}</script>
<script type="module">
  import { connect } from '@roomcast/client';
  globalThis.start = (url) => {
    const client = connect(url, { user: 'ann', socket: { reconnectionDelay: 10, reconnectionDelayMax: 50, transports: ['websocket'] } });
    const room = client.join('r');
    globalThis.told = { heard: [], own: [], gaps: 0, acks: [], disconnects: 0 };
    room.on('message-reply', ({ n, mine }) => (mine === undefined ? told.heard.push(n) : told.own.push(mine)));
    room.when('gap', () => told.gaps++);
    room.when('reset', () => told.gaps++);
    client.when('disconnected', () => told.disconnects++);
    globalThis.say = (from, to) => { for (let mine = from; mine <= to; mine++) room.send({ mine }).then(({ offset }) => told.acks.push(offset)); };
    return room.joined;
  };
</script>`;

let site;
let browser;
before(async () => {
  site = createServer(({ url }, response) => {
    const file = url === '/socket.io.js' ? files[url] : url.startsWith('/client/') && files['/client/'] + url.slice('/client/'.length);
    response.writeHead(200, { 'content-type': file ? 'text/javascript' : 'text/html' });
    if (file) createReadStream(file).pipe(response);
    else response.end(page);
  });
  await new Promise((done) => site.listen(0, '127.0.0.1', done));
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'],
  });
});
after(async () => {
  await browser?.close();
  site?.closeAllConnections();
  site?.close();
});

story('a page misses nothing and repeats nothing', { HISTORY_SIZE: '10000', RECOVERY_LIMIT: '100' }, async (world) => {
  const context = await browser.newContext();
  try {
    const view = await context.newPage();
    const faults = [];
    view.on('pageerror', (error) => faults.push(error.stack));
    await view.goto(`http://127.0.0.1:${site.address().port}/`);
    await view.evaluate((url) => globalThis.start(url), world.net.url);
    let writer = await world.plain();
    for (const round of range(0, 9)) {
      await view.evaluate(([from, to]) => globalThis.say(from, to), [round * 20 + 1, round * 20 + 20]);
      if (round === 5) {
        await world.crash();
        writer = await world.plain();
      }
      world.net.cutAfter = 1 + round * 2000;
      await write(writer, 'r', round * 200 + 1, round * 200 + 200);
    }
    world.net.cutAfter = Infinity;
    await within(view.waitForFunction(() => told.heard.length >= 2000 && told.own.length >= 200 && told.acks.length >= 200), 'all messages', 30_000);
    const told = await view.evaluate(() => globalThis.told);
    assert.deepEqual([told.heard, told.own], [range(1, 2000), range(1, 200)]);
    assert.equal(new Set(told.acks).size, 200);
    assert.deepEqual([told.gaps, faults], [0, []]);
    assert.ok(told.disconnects >= 2, `it was disconnected ${told.disconnects} times only`);
  } finally {
    await context.close();
  }
});
