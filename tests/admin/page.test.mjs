// The page of the official Admin UI, as npm has it, in a real browser.
import assert from 'node:assert/strict';
import { createReadStream, existsSync, mkdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, extname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { DEADLINE_MS } from '../clients/server.mjs';
import { PASSWORD, USERNAME, against, ask, heard } from './stage.mjs';

const UI = join(dirname(createRequire(import.meta.url).resolve('@socket.io/admin-ui/package.json')), 'ui/dist');
const PICTURES = join(import.meta.dirname, 'dist');
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

let site;
let browser;

before(async () => {
  mkdirSync(PICTURES, { recursive: true });
  site = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://site');
    const file = join(UI, pathname === '/' ? 'index.html' : pathname);
    const found = existsSync(file);
    response.writeHead(found ? 200 : 404, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream' });
    if (found) createReadStream(file).pipe(response);
    else response.end();
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

/** Opens the page in a browser without a past; `tell` gets it and `shoot(name)`, which keeps a picture. */
async function onPage(tell) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 } });
  context.setDefaultTimeout(DEADLINE_MS);
  // Icons and fonts of other sites are not what is tested.
  await context.route(
    (url) => url.hostname !== '127.0.0.1',
    (route) => route.abort(),
  );
  const page = await context.newPage();
  const shoot = (name) => page.screenshot({ path: join(PICTURES, `${name}.png`), animations: 'disabled' });
  try {
    await page.goto(`http://127.0.0.1:${site.address().port}/`);
    await tell(page, shoot);
  } catch (error) {
    await shoot('failed');
    throw error;
  } finally {
    await context.close();
  }
}

async function logIn(page, server, password = PASSWORD) {
  await page.getByLabel('Server URL').fill(server.url);
  await page.getByLabel('Username').fill(USERNAME);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Connect' }).click();
}

const modal = (page) => page.locator('.v-dialog--active');
const menu = (page, title) => page.locator('.v-navigation-drawer a', { hasText: title });

for (const [what, namesThePage] of [
  ['that any page may talk to', false],
  ['that names the page', true],
]) {
  test(`the page shows the clients of a server ${what}, moves one into a room and disconnects it`, async () => {
    const origin = namesThePage ? `http://127.0.0.1:${site.address().port}` : '*';
    await against({ NODE_ENV: 'development', LOG_LEVEL: 'info', CORS_ORIGIN: origin }, async ({ server, connect }) => {
      const ada = await connect('/', { auth: { clientName: 'Ada', token: 'hunter2' }, query: { token: 'hunter2' } });
      const bob = await connect('/', { auth: { clientName: 'Bob' } });
      await ask(bob, 'join-room', { roomName: 'kitchen' });
      const [adasId, bobsId] = [ada.id, bob.id]; // A socket that is closed has none.

      await onPage(async (page, shoot) => {
        await logIn(page, server);
        await modal(page).waitFor({ state: 'hidden' });
        await menu(page, 'Sockets').click();
        // By the address, too: while one view fades into another, both are there.
        const row = (id) => page.locator('tbody tr', { hasText: id }).filter({ hasText: '127.0.0.1' });
        await row(adasId).waitFor();
        await row(bobsId).waitFor();
        await shoot('sockets');

        await row(adasId).click();
        await page.getByText('"clientName": "Ada"').waitFor();
        assert.ok(!(await page.content()).includes('hunter2'), 'the token is shown');
        await page.getByLabel('Join a room').fill('kitchen');
        await page.locator('main form button[type=submit]').click();
        await page.locator('tbody tr', { hasText: 'kitchen' }).waitFor();
        const [joined] = await heard(ada, 'room-joined');
        assert.equal(joined.roomName, 'kitchen');
        const [came] = await heard(bob, 'user-joined');
        assert.equal(came.socketId, adasId);
        await shoot('socket');

        await menu(page, 'Rooms').click();
        const room = page.locator('tbody tr', { hasText: 'kitchen' }).filter({ hasText: 'Public' });
        await room.waitFor();
        assert.match(await room.innerText(), /kitchen\s+PUBLIC\s+2/);
        await shoot('rooms');
        await menu(page, 'Events').click();
        await page.locator('tbody tr', { hasText: 'room-joined' }).first().waitFor();
        await shoot('events');

        await menu(page, 'Sockets').click();
        const ended = new Promise((done) => ada.once('disconnect', done));
        await row(adasId).locator('button').click();
        assert.equal(await ended, 'io server disconnect');
        // A click on the button is one on the row, too: the page shows the socket, which is gone.
        await page.locator('tr', { hasText: 'Status' }).filter({ hasText: 'disconnected' }).first().waitFor();
        await shoot('disconnected');
        await menu(page, 'Sockets').click();
        await row(bobsId).waitFor();
        assert.equal(await row(adasId).count(), 0);
        await shoot('left');

        // The page comes back by its session.
        await page.reload();
        await menu(page, 'Sockets').waitFor();
        assert.equal(await modal(page).count(), 0);
      });
    });
  });
}

test('the page of a server in production shows counts alone', async () => {
  await against({}, async ({ server, connect }) => {
    const ada = await connect('/chat', { auth: { clientName: 'Ada' } });
    await onPage(async (page, shoot) => {
      await logIn(page, server);
      await modal(page).waitFor({ state: 'hidden' });
      const namespace = page.locator('tr', { hasText: '/chat' });
      await namespace.waitFor();
      assert.match(await namespace.innerText(), /\/chat\s+1/);
      assert.deepEqual((await page.locator('.v-navigation-drawer a').allInnerTexts()).map((text) => text.trim()), [
        'Dashboard',
        'Servers',
      ]);
      assert.ok(!(await page.content()).includes(ada.id), 'a client is shown');
      await shoot('production');
    });
  });
});

test('the page says when the password is wrong', async () => {
  await against({}, async ({ server }) => {
    await onPage(async (page, shoot) => {
      await logIn(page, server, 'wrong');
      await modal(page).getByText('Invalid credentials').waitFor();
      await shoot('refused');
    });
  });
});
