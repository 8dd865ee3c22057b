// A plain HTML page that takes the client from the server, as pages do that were written against Node's server.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { against, BUNDLES, DESKTOP, launch } from './browser.mjs';

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

/** Serves one page on an origin of its own; answers its address and how to close it. */
async function site(html) {
  const server = createServer((_, response) => response.writeHead(200, { 'content-type': 'text/html' }).end(html));
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

const story = (url) => `
  const said = (text) => (document.getElementById('said').textContent = text);
  const socket = io('${url}', { auth: { clientName: 'plain' } });
  socket.on('message-reply', ({ text }) => said(text));
  socket.emit('join-room', 'lobby', () => {
    socket.emit('message', { roomName: 'lobby', text: 'hello', replyToSender: true });
  });`;

const plain = (url, name) => `<!doctype html><title>plain</title><p id="said"></p>
  <script src="${url}/socket.io/${name}"></script><script>${story(url)}</script>`;

// A browser takes a module of another origin only with its leave (CORS).
const modern = (url, name) => `<!doctype html><title>modern</title><p id="said"></p>
  <script type="module">import { io } from '${url}/socket.io/${name}';${story(url)}</script>`;

for (const [name, page] of [
  ['socket.io.js', plain],
  ['socket.io.min.js', plain],
  ['socket.io.esm.min.js', modern],
]) {
  test(`a page that takes /socket.io/${name} from the server works`, async () => {
    await against(browser, { CLIENT_BUNDLE_DIR: BUNDLES }, async (server, open) => {
      const { url, close } = await site(page(server.url, name));
      try {
        const view = await open(DESKTOP);
        await view.goto(url);
        await view.locator('#said', { hasText: 'hello' }).waitFor();
      } finally {
        close();
      }
    });
  });
}

test('without the directory the answer says what to set', async () => {
  await against(browser, {}, async (server) => {
    const response = await fetch(`${server.url}/socket.io/socket.io.js`);
    assert.equal(response.status, 404);
    assert.match((await response.json()).message, /CLIENT_BUNDLE_DIR/);
  });
});
