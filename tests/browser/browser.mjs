// A real browser on the server's own pages: what the stories in this folder have in common.
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { DEADLINE_MS, startServer } from '../clients/server.mjs';

const root = resolve(fileURLToPath(import.meta.url), '../../..');

/** Where the pictures are kept. */
const pictures = join(resolve(root, process.env.CARGO_TARGET_DIR ?? 'target'), 'screenshots');

/** The official client's bundles. */
export const BUNDLES = join(root, 'tests/browser/node_modules/socket.io-client/dist');

export const DESKTOP = { viewport: { width: 1280, height: 900 } };
export const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };

/** Starts Chromium: the one that CHROMIUM names, or Debian's. */
export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'],
  });

/**
 * Tells a story against a server of its own. `tell` gets the server and `open(device, path)`, which opens a page in
 * a context of its own. An error that no page caught, and anything that a page's policy forbade, fails the story.
 */
export async function against(browser, env, tell) {
  const server = await startServer(env);
  const contexts = [];
  const faults = [];
  const open = async (device = DESKTOP, path = '/') => {
    const context = await browser.newContext(device);
    contexts.push(context);
    context.setDefaultTimeout(DEADLINE_MS);
    const page = await context.newPage();
    page.on('pageerror', (error) => faults.push(error.stack));
    page.on('console', (message) => {
      if (message.text().includes('Content Security Policy')) faults.push(message.text());
    });
    await page.goto(server.url + path);
    return page;
  };
  let failure;
  try {
    await tell(server, open);
    if (faults.length > 0) throw new Error(`faults in a page:\n${faults.join('\n')}`);
  } catch (error) {
    failure = error;
  }
  await Promise.all(contexts.map((context) => context.close()));
  try {
    await server.stop();
  } catch (error) {
    failure ??= error; // What went wrong first is what to read.
  }
  if (failure) throw failure;
}

/** Keeps a picture of the whole page. */
export async function picture(page, name) {
  mkdirSync(pictures, { recursive: true });
  await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
}
