// A real browser, a site on an origin of its own, and the server: what the stories in this folder have in common.
import { createReadStream, existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { chromium } from 'playwright-core';
import { DEADLINE_MS, startServer } from '../clients/server.mjs';

const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };

/** Serves a folder on a free port; answers `{origin, close}`. A folder without an index has an empty page. */
export async function serve(folder) {
  const site = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://site');
    const file = join(folder, pathname === '/' ? 'index.html' : pathname);
    if (existsSync(file)) {
      response.writeHead(200, { 'content-type': types[extname(file)] ?? 'application/octet-stream' });
      createReadStream(file).pipe(response);
    } else {
      response.writeHead(pathname === '/' ? 200 : 404, { 'content-type': 'text/html' });
      response.end('<!doctype html><title>empty</title>');
    }
  });
  await new Promise((done) => site.listen(0, '127.0.0.1', done));
  return {
    origin: `http://127.0.0.1:${site.address().port}`,
    close() {
      site.closeAllConnections();
      site.close();
    },
  };
}

/** Starts Chromium: the one that CHROMIUM names, or Debian's. */
export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'],
  });

/**
 * Tells a story against a server of its own that admits pages of one origin only. `tell` gets the server and
 * `open(url)`, which opens a page and answers `{page, faults}`: `faults` collects the errors that nobody caught.
 */
export async function against(browser, allowedOrigin, tell) {
  const server = await startServer({ CORS_ORIGIN: allowedOrigin });
  const context = await browser.newContext();
  context.setDefaultTimeout(DEADLINE_MS);
  const open = async (url) => {
    const page = await context.newPage();
    const faults = [];
    page.on('pageerror', (error) => faults.push(error.message));
    await page.goto(url);
    return { page, faults };
  };
  let failure;
  try {
    await tell(server, open);
  } catch (error) {
    failure = error;
  }
  await context.close();
  try {
    await server.stop();
  } catch (error) {
    failure ??= error; // What went wrong first is what to read.
  }
  if (failure) throw failure;
}
