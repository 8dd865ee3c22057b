// A production build of an Angular application on @roomcast/client, in a real browser, behind a network that breaks.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ask, connect } from '../clients/client.mjs';
import { network } from '../docs/network.mjs';
import { against, launch, serve } from './browser.mjs';
import { build } from './build.mjs';

let site;
let browser;

before(async () => {
  site = await serve(build('service'));
  browser = await launch();
});

after(async () => {
  await browser?.close();
  site?.close();
});

/** The messages on the page, once the last of them is there. */
async function shown(page, last) {
  await page.locator('#messages li').filter({ hasText: last }).waitFor();
  return (await page.locator('#messages li').allTextContents()).map((text) => text.trim());
}

test('a component has what was said before it came, and while the network was away', async () => {
  await against(browser, site.origin, async (server, open) => {
    const writer = await connect(server);
    const between = await network(server.port);
    try {
      const say = async (message) => assert.equal((await ask(writer, 'message', { roomName: 'log', clientName: 'node', message })).success, true);
      await ask(writer, 'join-room', 'log');
      await say('before');
      const { page, faults } = await open(`${site.origin}/?server=${encodeURIComponent(between.url)}`);
      await shown(page, 'before');
      await say('live');
      assert.deepEqual(await shown(page, 'live'), ['node: before', 'node: live']);

      between.cut();
      await page.locator('#status', { hasText: 'disconnected' }).waitFor();
      await page.fill('input[name=text]', 'said offline');
      await page.click('#send button');
      for (const text of ['missed', 'this, too']) await say(text);
      between.restore();
      const all = ['node: before', 'node: live', 'node: missed', 'node: this, too', 'page: said offline'];
      assert.deepEqual(await shown(page, 'said offline'), all);
      assert.equal(await page.locator('#incomplete').count(), 0);

      // The component goes, and its room with it; it comes back, and has everything that is kept.
      const left = new Promise((done) => writer.once('user-left', done));
      await page.click('#toggle');
      await left;
      await page.click('#toggle');
      assert.deepEqual(await shown(page, 'said offline'), all);
      assert.deepEqual(faults, []);
      assert.equal(await page.locator('#trouble').textContent(), '');
    } finally {
      writer.close();
      between.close();
    }
  });
});
