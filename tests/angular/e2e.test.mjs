// A production build of an Angular application on ngx-socket-io, in a real browser, on another origin than
// the server's.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { against, launch, serve } from './browser.mjs';
import { build } from './build.mjs';

let site;
let browser;

before(async () => {
  site = await serve(build('room'));
  browser = await launch();
});

after(async () => {
  await browser?.close();
  site?.close();
});

/** The address of the application, told to talk to this server. */
const application = (server) => `${site.origin}/?server=${encodeURIComponent(server.url)}`;

/** Waits until the page shows that it is connected; answers its client id. */
async function clientId({ page }) {
  const status = page.locator('#status', { hasText: 'connected as' });
  await status.waitFor();
  return (await status.textContent()).replace('connected as ', '').trim();
}

async function joinRoom(view, clientName, roomName) {
  await view.page.fill('input[name=clientName]', clientName);
  await view.page.fill('input[name=roomName]', roomName);
  await view.page.click('#join button');
  await view.page.locator('#send').waitFor();
}

async function say({ page }, text) {
  await page.fill('input[name=text]', text);
  await page.click('#send button');
}

/** The messages on the page, once the last of them is there. */
async function shown({ page }, last) {
  await page.locator('#messages li').filter({ hasText: last }).waitFor();
  return (await page.locator('#messages li').allTextContents()).map((text) => text.trim());
}

/** POSTs from within the page, so that the browser asks the server's leave for the other origin. */
const fetched = ({ page }, url, body) =>
  page.evaluate(
    async ([target, content]) => {
      try {
        const response = await fetch(target, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(content),
        });
        return { status: response.status, body: await response.json() };
      } catch (error) {
        return { blocked: String(error) };
      }
    },
    [url, body],
  );

const dto = (roomName, message) => ({
  id: randomUUID(),
  clientId: 'backend',
  clientName: 'the backend',
  roomName,
  messageType: 'text',
  message,
  timestamp: new Date().toISOString(),
});

test('two pages in one room see what each other and the backend say', async () => {
  await against(browser, site.origin, async (server, open) => {
    const [ann, bob] = [await open(application(server)), await open(application(server))];
    assert.notEqual(await clientId(ann), await clientId(bob));
    await joinRoom(ann, 'Ann', 'kitchen');
    await joinRoom(bob, 'Bob', 'kitchen');

    await say(ann, 'Is there coffee? ☕');
    await shown(bob, 'Is there coffee? ☕');
    await say(bob, 'Freshly made.');
    await shown(ann, 'Freshly made.');

    const notice = dto('kitchen', 'The milk is out.');
    const answer = await fetched(ann, `${server.url}/messages/broadcast`, notice);
    assert.equal(answer.status, 201, JSON.stringify(answer));
    assert.equal(answer.body.id, notice.id);

    const all = ['Ann: Is there coffee? ☕', 'Bob: Freshly made.', 'the backend: The milk is out.'];
    for (const view of [ann, bob]) {
      assert.deepEqual(await shown(view, 'The milk is out.'), all);
      assert.deepEqual(view.faults, []);
    }
  });
});

test('a page of an origin that is not allowed is kept out', async () => {
  const allowed = 'http://allowed.example';
  await against(browser, allowed, async (server, open) => {
    const view = await open(application(server));
    await view.page.locator('#status', { hasText: 'connect_error' }).waitFor();
    const answer = await fetched(view, `${server.url}/messages/broadcast`, dto('kitchen', 'let me in'));
    assert.match(answer.blocked ?? `it was answered ${answer.status}`, /Failed to fetch/);

    // It is the origin that is refused: a page of the allowed one would have its handshake.
    const handshake = await fetch(`${server.url}/socket.io/?EIO=4&transport=polling`, { headers: { origin: allowed } });
    assert.equal(handshake.status, 200);
    assert.equal(handshake.headers.get('access-control-allow-origin'), allowed);
    await handshake.text();
  });
});
