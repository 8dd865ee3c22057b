// Swagger UI: a padlock where a key is needed, and only there; nothing that this server does not use.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { against, DESKTOP, launch, PHONE, picture } from './browser.mjs';

const KEY = 'a-key-of-the-tests';

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

/** The paths of the operations with a padlock, and of those without; whether all padlocks are closed. */
async function padlocks(page) {
  await page.locator('.opblock').first().waitFor();
  return page.evaluate(() => {
    const blocks = [...document.querySelectorAll('.opblock')].map((block) => ({
      path: block.querySelector('.opblock-summary-path').dataset.path,
      icon: block.querySelector('.authorization__btn svg')?.classList[0],
    }));
    const of = (icon) => [...new Set(blocks.filter((block) => block.icon === icon).map(({ path }) => path))];
    return { closed: of('closed'), open: of('open'), none: of(undefined), count: blocks.length };
  });
}

for (const [what, env, broadcast, events] of [
  ['with keys', { API_KEYS: KEY }, 'closed', 'closed'],
  ['without keys', {}, 'none', 'closed'],
  ['in development', { NODE_ENV: 'development' }, 'none', 'none'],
]) {
  test(`${what}, a padlock stands where a key is needed`, async () => {
    await against(browser, env, async (server, open) => {
      const page = await open(DESKTOP, '/api');
      const found = await padlocks(page);
      assert.ok(found.count > 20, `${found.count} operations`);
      assert.ok(found[broadcast].includes('/messages/broadcast'), JSON.stringify(found));
      assert.ok(found[events].includes('/events'), JSON.stringify(found));
      for (const path of ['/health', '/health/live', '/health/ready', '/metrics']) assert.ok(found.none.includes(path), path);
      assert.deepEqual(found.open, []);
      for (const bar of ['.topbar', '.download-url-wrapper']) assert.equal(await page.locator(bar).count(), 0, bar);
      await picture(page, `swagger-${what.replaceAll(' ', '-')}`);
    });
  });
}

test('a key that is entered opens the padlocks, and is sent', async () => {
  await against(browser, { API_KEYS: KEY }, async (server, open) => {
    const page = await open(PHONE, '/api/');
    await padlocks(page);
    await page.locator('.btn.authorize').click();
    await page.locator('.auth-container input').first().fill(KEY);
    await page.locator('.auth-btn-wrapper .authorize').first().click();
    await page.locator('.btn-done').first().click();
    const found = await padlocks(page);
    assert.deepEqual(found.closed, []);
    assert.ok(found.open.includes('/stats'), JSON.stringify(found));
    await page.locator('.opblock', { has: page.locator('[data-path="/stats"]') }).locator('.opblock-summary-control').click();
    await page.locator('.try-out__btn').click();
    const answer = page.waitForResponse((response) => response.url().endsWith('/stats'));
    await page.locator('.execute').click();
    assert.equal((await answer).status(), 200);
    await picture(page, 'swagger-phone-authorized');
  });
});
