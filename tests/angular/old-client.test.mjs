// Generation 2 in a real browser. Over polling it speaks another dialect there than in Node: with XMLHttpRequest 2
// its payloads are binary, where Node's client asks for base64.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ask, connect, next, withoutOffset } from '../clients/client.mjs';
import { against, launch, serve } from './browser.mjs';

const library = fileURLToPath(new URL('../clients/node_modules/socket.io-client-2/dist', import.meta.url));

let site;
let browser;

before(async () => {
  site = await serve(library);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  site?.close();
});

for (const transports of [['polling'], ['websocket'], ['polling', 'websocket']]) {
  test(`text and bytes pass both ways, ${transports.join(' and then ')}`, async () => {
    await against(browser, site.origin, async (server, open) => {
      const node = await connect(server, { version: 4 });
      assert.equal((await ask(node, 'join-room', 'files')).success, true);

      const { page, faults } = await open(site.origin);
      await page.addScriptTag({ url: `${site.origin}/socket.io.js` });
      const ack = await page.evaluate(
        ([url, how]) =>
          new Promise((done, failed) => {
            window.heard = [];
            window.socket = window.io(url, { transports: how, reconnection: false });
            for (const event of ['error', 'connect_error']) {
              window.socket.on(event, (reason) => failed(new Error(`${event}: ${reason.message ?? reason}`)));
            }
            window.socket.on('message-reply', (message) => {
              window.heard.push({ ...message, file: [...new Uint8Array(message.file)] });
            });
            window.socket.emit('join-room', { roomName: 'files' }, done);
          }),
        [server.url, transports],
      );
      assert.equal(ack.success, true);

      const bytes = Array.from({ length: 256 }, (_, byte) => byte);
      for (const text of ['first ☕', 'second 👩‍👩‍👧‍👦']) {
        const message = { roomName: 'files', text, file: Buffer.from(bytes), omitSender: true };
        assert.equal((await ask(node, 'message', message)).success, true);
      }
      await page.waitForFunction(() => window.heard.length === 2);
      const heard = await page.evaluate(() => window.heard);
      const expected = { roomName: 'files', file: bytes, omitSender: true };
      assert.deepEqual(heard.map(withoutOffset), [
        { ...expected, text: 'first ☕' },
        { ...expected, text: 'second 👩‍👩‍👧‍👦' },
      ]);

      await page.evaluate((values) => {
        window.socket.emit('message', { roomName: 'files', text: 'back ☕', file: new Uint8Array(values).buffer });
      }, bytes);
      const got = await next(node, 'message-reply');
      assert.equal(got.text, 'back ☕');
      assert.deepEqual([...got.file], bytes);
      assert.deepEqual(faults, []);
      node.close();
    });
  });
}
