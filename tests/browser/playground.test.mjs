// The playground's whole story, told by two pages: what a newcomer does in the first five minutes.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { io } from 'socket.io-client';
import { DEADLINE_MS, emitted } from '../clients/server.mjs';
import { inSeconds, sign, SECRET } from '../clients/token.mjs';
import { against, DESKTOP, launch, PHONE, picture } from './browser.mjs';
import { Playground } from './playground.mjs';

const run = promisify(execFile);
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

/** Holds the page, as it is now, to WCAG 2.1 AA as far as a machine can tell, and to the width of its screen. */
async function accessible(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() =>
    globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] }),
  );
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('; ')}`);
  assert.deepEqual(found, []);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `the page is ${overflow} px wider than its screen`);
}

for (const [device, options] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
  for (const colorScheme of ['light', 'dark']) {
    test(`two pages talk to each other, on ${device}, ${colorScheme}`, async () => {
      await against(browser, { NODE_ENV: 'development' }, async (server, open) => {
        const [ada, grace] = [
          new Playground(await open({ ...options, colorScheme })),
          new Playground(await open({ ...options, colorScheme })),
        ];
        await picture(ada.page, `playground-${device}-${colorScheme}-1-first-sight`);
        await accessible(ada.page);
        assert.ok(await ada.button('Send').isDisabled(), 'nothing can be sent before it is connected');
        for (const label of ['Room to join', 'To room']) assert.equal(await ada.field(label).inputValue(), 'lobby');
        assert.ok(await ada.field('Send me a copy').isChecked());
        const top = async (id) => (await ada.page.locator(`#${id}`).boundingBox()).y;
        for (const form of ['connect', 'join', 'send']) {
          const isAbove = (await top('events')) < (await top(form));
          assert.ok(isAbove || (device === 'desktop' && form === 'connect'), `the events are not above the form ${form}`);
        }

        await ada.connect({ 'Client name': 'Ada', user: 'ada' });
        await grace.connect({ 'Client name': 'Grace', user: 'grace' });
        await ada.hears('in', 'connected');
        await ada.says('session-user', 'ada');
        await ada.join('lobby');
        await grace.join('lobby');
        await ada.member('Grace').waitFor();
        await grace.member('Ada').waitFor();

        await ada.send('message', { Text: 'Is there coffee? ☕' });
        await grace.hears('in', 'message-reply', 'Is there coffee? ☕');
        const heard = await grace.payload('in', 'message-reply', 'coffee');
        assert.deepEqual(heard, { roomName: 'lobby', message: 'Is there coffee? ☕', replyToSender: true, offset: 1 });
        await ada.says('ack-time', 'message, after');
        const ack = await ada.ack();
        assert.deepEqual([ack.success, ack.roomName, ack.offset], [true, 'lobby', 1]);
        await ada.hears('in', 'message-reply', 'Is there coffee? ☕');

        await grace.send('sendMessage', { Text: 'Freshly made.' });
        await ada.hears('in', 'newMessage', 'Freshly made.');
        assert.equal((await ada.payload('in', 'newMessage')).sender, 'grace');

        await grace.send('typingIndicator');
        await ada.says('typing', 'Grace is typing…');
        await ada.hears('in', 'userTyping');

        await ada.send('private-message', { 'To user': 'grace', Text: 'Between us' });
        await grace.hears('in', 'private-message', 'Between us');
        assert.equal((await grace.payload('in', 'private-message')).from, 'ada');

        await grace.send('custom-event', { 'Event name': 'cursor-moved', Data: '{"x": 3}' });
        await ada.hears('in', 'cursor-moved', '{"x":3}');

        await grace.field('Presence').selectOption('busy');
        await ada.page.locator('#members li[data-presence=busy]', { hasText: 'grace, busy' }).waitFor();

        await ada.page.getByText('message', { exact: true }).and(ada.page.locator('.kinds span')).click();
        await ada.field('Text').fill("It's on its way: $HOME `id` \"now\" \\ 100%");
        const { stdout } = await run('bash', ['-c', await ada.page.locator('#curl').textContent()]);
        assert.equal(JSON.parse(stdout).roomName, 'lobby', stdout);
        await ada.hears('in', 'message-reply', 'on its way');
        const told = await ada.payload('in', 'message-reply', 'on its way');
        assert.deepEqual([told.message, told.clientName], ["It's on its way: $HOME `id` \"now\" \\ 100%", 'curl']);

        await picture(ada.page, `playground-${device}-${colorScheme}-2-talking`);
        await accessible(ada.page);

        await grace.button('Leave').click();
        await grace.says('no-rooms', 'Join a room');
        await ada.member('Grace').waitFor({ state: 'detached' });
        await grace.button('Disconnect').click();
        await grace.says('status', 'Not connected');
      });
    });
  }
}

test('"From a backend" has the right route for each kind of event', async () => {
  await against(browser, { NODE_ENV: 'development', WEBSOCKET_NAMESPACE: '/,/chat' }, async (server, open) => {
    const [ada, grace, eve] = [new Playground(await open()), new Playground(await open()), new Playground(await open())];
    await ada.connect({ 'Client name': 'Ada', user: 'ada', Namespace: '/chat' });
    await grace.connect({ 'Client name': 'Grace', user: 'grace', Namespace: '/chat' });
    await eve.connect({ 'Client name': 'Eve', Namespace: '/chat' });
    await ada.join('tea');
    await grace.join('tea');
    assert.equal(await ada.field('To room').inputValue(), 'tea');
    const secret = "nobody else's business";
    const cases = [
      ['message', { 'To room': 'tea', Text: 'to the room' }, /messages\/broadcast/, 'message-reply', [ada, grace], [eve]],
      ['message', { 'To room': '', Text: 'to all' }, /\/events'/, 'message', [ada, grace, eve], []],
      ['sendMessage', { 'To room': 'tea', Text: 'a chat' }, /\/events'/, 'newMessage', [ada, grace], [eve]],
      ['private-message', { 'To user': 'grace', Text: secret }, /\/events'/, 'private-message', [grace], [ada, eve]],
      ['custom-event', { 'To room': 'tea', 'Event name': 'moved', Data: '{"x": 1}' }, /\/events'/, 'moved', [ada, grace], [eve]],
      ['custom-event', { 'To room': '', 'Event name': 'shone', Data: '"on"' }, /\/events'/, 'shone', [ada, grace, eve], []],
    ];
    for (const [kind, fields, route, event, reached, others] of cases) {
      await ada.page.getByText(kind, { exact: true }).and(ada.page.locator('.kinds span')).click();
      await ada.fill(fields);
      const command = await ada.page.locator('#curl').textContent();
      assert.match(command, route);
      const { stdout } = await run('bash', ['-c', command]);
      assert.ok(JSON.parse(stdout).id, stdout);
      for (const page of reached) await page.hears('in', event);
      // The connection is ordered: what had been sent to the others would be here before the answer.
      for (const page of others) {
        await page.send('message', { 'To room': 'fence', Text: kind });
        await page.hears('ack', 'message');
        assert.equal(await page.rows('in', event).count(), 0, `${event} reached somebody else`);
        await page.button('Clear').click();
      }
    }
    assert.equal((await grace.payload('in', 'private-message')).message.content, secret);
    await ada.page.getByText('typingIndicator', { exact: true }).and(ada.page.locator('.kinds span')).click();
    await ada.says('curl-about', 'No route does this');
    assert.ok(await ada.page.locator('#curl').isHidden());
    await picture(ada.page, 'playground-desktop-light-5-from-a-backend');
  });
});

test('the list of events can be filtered, paused and cleared, and has a bound', async () => {
  await against(browser, { RATE_LIMIT_EVENTS: '0' }, async (server, open) => {
    const view = new Playground(await open());
    await view.connect({ 'Client name': 'Ada' });
    await view.join('lobby');
    await view.field('Send me a copy').uncheck();
    await view.send('message', { Text: 'apple' });
    await view.send('message', { Text: 'pear' });
    await view.hears('out', 'message', 'pear');

    const filter = view.field('Filter by name or content');
    await filter.fill('APPLE');
    await view.rows('out', 'message', 'pear').waitFor({ state: 'hidden' });
    assert.ok(await view.rows('out', 'message', 'apple').isVisible());
    await view.says('feed-count', '1 of ');
    await filter.fill('');
    await view.field('Direction').selectOption('in');
    await view.rows('out', 'message', 'apple').waitFor({ state: 'hidden' });
    assert.ok(await view.rows('in', 'connected').isVisible());
    await view.field('Direction').selectOption('');

    await view.button('Pause').click();
    await view.send('message', { Text: 'cherry' });
    await view.says('feed-count', 'paused, 2 waiting');
    assert.equal(await view.rows('out', 'message', 'cherry').count(), 0);
    await view.button('Pause').click();
    await view.hears('out', 'message', 'cherry');

    await view.button('Clear').click();
    await view.says('empty', 'No events yet.');

    // A flood from a backend: the rate is seen, and only the newest are kept.
    const send = (text) =>
      fetch(`${server.url}/messages/broadcast`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          id: crypto.randomUUID(),
          clientId: 'backend',
          clientName: 'backend',
          roomName: 'lobby',
          messageType: 'text',
          message: text,
          timestamp: new Date().toISOString(),
        }),
      });
    for (let block = 0; block < 6; block += 1) {
      const answers = await Promise.all(Array.from({ length: 100 }, (_, index) => send(`flood ${block * 100 + index}`)));
      assert.ok(answers.every(({ status }) => status === 201));
    }
    await view.says('feed-count', '500 events · 100 older ones dropped');
    assert.equal(await view.page.locator('#feed li').count(), 500);
    // The picture is drawn once a second: its highest bar is higher than those of the quiet seconds.
    await view.page.waitForFunction(() => {
      const heights = document.querySelector('#rate path').getAttribute('d').matchAll(/v([\d.]+)/g);
      return Math.max(...Array.from(heights, ([, height]) => Number(height))) > 30;
    });
    await picture(view.page, 'playground-desktop-light-3-flood');
  });
});

test('a refused connection is told in clear words, and what to do', async () => {
  await against(browser, { JWT_SECRET: SECRET }, async (server, open) => {
    const view = new Playground(await open());
    await view.knock({ 'Client name': 'Ada' });
    await view.says('trouble', 'Connection refused: authentication required');
    await view.says('trouble', 'roomcast token --sub alice');
    await view.says('status', 'Refused');

    await view.knock({ Token: sign({ sub: 'ada' }, { secret: 'another secret that is long enough for HS256' }) });
    await view.says('trouble', 'Connection refused: token signature is not valid');
    await view.says('trouble', 'JWT_SECRET');
    await picture(view.page, 'playground-desktop-light-4-refused');
    await accessible(view.page);

    await view.knock({ Token: sign({ sub: 'ada', name: 'Ada Lovelace', rooms: ['tea-*'] }), Namespace: 'nowhere' });
    await view.says('trouble', 'WEBSOCKET_NAMESPACE');

    await view.connect({ Namespace: '/chat' });
    await view.says('session-name', 'Ada Lovelace');
    await view.says('session-user', 'ada');
    assert.ok(await view.page.locator('#trouble').isHidden());
    await view.join('tea-1');
    await view.says('member-source', 'set API_KEYS');
    assert.match(await view.page.locator('#curl').textContent(), /broadcast\?namespace=%2Fchat/);

    // A refused event is told as well.
    await view.field('Room to join').fill('coffee-1');
    await view.button('Join').click();
    await view.page.locator('#feed li.ack.failed', { hasText: 'forbidden' }).waitFor();
    assert.equal((await view.ack()).code, 'forbidden');
  });
});

test('an API key lists the members, and stays out of the curl', async () => {
  await against(browser, { API_KEYS: 'key-of-the-tests' }, async (server, open) => {
    const [ada, grace] = [new Playground(await open()), new Playground(await open())];
    await ada.connect({ 'Client name': 'Ada' });
    await ada.join('lobby');
    await ada.says('member-source', 'enter an API key');
    await grace.connect({ 'Client name': 'Grace', apiKey: 'key-of-the-tests' });
    await grace.join('lobby');
    await grace.says('member-source', 'All members');
    await grace.member('Ada').waitFor();

    const curl = await grace.page.locator('#curl').textContent();
    assert.ok(!curl.includes('key-of-the-tests'), curl);
    await grace.page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await grace.button('Copy').click();
    await grace.button('Copied').waitFor();
    assert.equal(await grace.page.evaluate(() => navigator.clipboard.readText()), curl);
    await run('bash', ['-c', curl], { env: { ...process.env, ROOMCAST_API_KEY: 'key-of-the-tests' } });
    await ada.hears('in', 'message-reply', 'Hello from curl');
  });
});

test('the page may connect to its own server whatever CORS_ORIGIN lists', async () => {
  await against(browser, { CORS_ORIGIN: 'https://app.example' }, async (server, open) => {
    const view = new Playground(await open());
    await view.connect({ 'Client name': 'Ada' });
    await view.join('lobby');
  });
});

test('a server without websocket is told apart from one that is not there', async () => {
  await against(browser, { WEBSOCKET_TRANSPORTS: 'polling' }, async (server, open) => {
    const view = new Playground(await open());
    await view.knock({ 'Client name': 'Ada' });
    await view.says('trouble', 'WEBSOCKET_TRANSPORTS must name websocket');
    await view.page.route('**/health/live', (route) => route.abort());
    await view.says('trouble', 'The server does not answer.');
    await view.button('Stop trying').click();
    await view.says('status', 'Not connected');
  });
});

test('a lost connection comes back, to its rooms, and catches up', async () => {
  await against(browser, {}, async (server, open) => {
    const view = new Playground(await open());
    await view.connect({ 'Client name': 'Ada' });
    await view.join('lobby');
    const curl = await view.page.locator('#curl').textContent();
    await run('bash', ['-c', curl]);
    await view.hears('in', 'message-reply', 'Hello from curl');
    // As when the network goes: the socket closes without a word of the page or the server.
    await view.page.evaluate('socket.lose("the network went")');
    await run('bash', ['-c', curl.replace('Hello from curl', 'You missed this')]);
    await view.hears('in', 'message-reply', 'You missed this');
    await view.says('status', 'Connected');
    const ack = await view.payload('ack', 'join-room', 'recovered');
    assert.deepEqual([ack.recovered, ack.missed], [true, 1]);
  });
});

test('binary attachments of the official client are shown by their size', async () => {
  await against(browser, {}, async (server, open) => {
    const view = new Playground(await open());
    await view.connect({ 'Client name': 'Ada' });
    await view.join('lobby');
    const socket = io(server.url, { transports: ['websocket'], forceNew: true });
    try {
      await emitted(socket, 'connect');
      const files = [Buffer.from('abc'), Buffer.from('de')];
      await socket.timeout(DEADLINE_MS).emitWithAck('message', { roomName: 'lobby', files });
      await view.hears('in', 'message-reply', 'binary');
      const { files: shown } = await view.payload('in', 'message-reply');
      assert.deepEqual(shown, ['<binary, 3 bytes>', '<binary, 2 bytes>']);
    } finally {
      socket.disconnect();
    }
  });
});

test('pings are answered, so that a quiet connection stays', async () => {
  await against(browser, { PING_INTERVAL: '200ms', PING_TIMEOUT: '2s' }, async (server, open) => {
    const view = new Playground(await open());
    const pongs = new Promise((answered) => {
      let count = 0;
      view.page.on('websocket', (socket) =>
        socket.on('framesent', ({ payload }) => {
          if (payload === '3') count += 1;
          if (count === 12) answered();
        }),
      );
    });
    await view.connect({ 'Client name': 'Ada' });
    // More of them than a server without answers would have sent before it gave up.
    await pongs;
    await view.says('status', 'Connected');
    assert.equal(await view.rows('note', 'connection lost').count(), 0);
  });
});

test('a token that ends while connected is told, and what to do', async () => {
  await against(browser, { JWT_SECRET: SECRET }, async (server, open) => {
    const view = new Playground(await open());
    await view.connect({ 'Client name': 'Ada', Token: sign({ sub: 'ada', exp: inSeconds(3) }) });
    await view.says('trouble', 'Connect with a fresh token.');
    await view.says('status', 'Not connected');
  });
});
