// The package as npm would ship it: for modules, for CommonJS, for TypeScript, and for a browser.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const modules = join(root, 'node_modules');
let folder;
let shipped;

/** A folder in which the packed package is installed. */
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'roomcast-package-'));
  const packed = spawnSync('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', folder], { cwd: root, encoding: 'utf8' });
  assert.equal(packed.status, 0, packed.stderr);
  const [{ filename, files }] = JSON.parse(packed.stdout);
  shipped = files.map(({ path }) => path);
  const home = join(folder, 'node_modules/@roomcast/client');
  mkdirSync(home, { recursive: true });
  assert.equal(spawnSync('tar', ['-xzf', join(folder, filename), '--strip-components=1', '-C', home]).status, 0);
  for (const name of ['socket.io-client', '@socket.io', 'engine.io-client', 'engine.io-parser', 'socket.io-parser', 'debug', 'ms', 'ws', 'xmlhttprequest-ssl']) {
    symlinkSync(join(modules, name), join(folder, 'node_modules', name));
  }
});
after(() => rmSync(folder, { recursive: true, force: true }));

test('it holds what is built, and depends on socket.io-client alone', () => {
  const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  assert.deepEqual([dependencies, Object.keys(peerDependencies)], [undefined, ['socket.io-client']]);
  const other = shipped.filter((path) => !/^dist\/(esm|cjs)\/[\w.-]+$/.test(path)).sort();
  assert.deepEqual(other, ['LICENSE', 'README.md', 'package.json']);
  for (const path of ['dist/esm/index.js', 'dist/esm/index.d.ts', 'dist/cjs/index.js', 'dist/cjs/index.d.ts']) assert.ok(shipped.includes(path), path);
});

const program = (load) => `${load}
const client = connect('http://127.0.0.1:9', { socket: { reconnection: false } });
client.when('unreachable', (error) => { console.log('unreachable', error instanceof Error); client.close(); });`;

for (const [name, load] of [
  ['module.mjs', "import { connect } from '@roomcast/client';"],
  ['common.cjs', "const { connect } = require('@roomcast/client');"],
]) {
  test(`${name} loads it, and ends when it is closed`, () => {
    writeFileSync(join(folder, name), program(load));
    const { status, stdout, stderr } = spawnSync(process.execPath, [name], { cwd: folder, encoding: 'utf8', timeout: 20_000 });
    assert.deepEqual([status, stdout, stderr], [0, 'unreachable true\n', '']);
  });
}

const good = `
import { connect, RoomcastError, type Position } from '@roomcast/client';
interface Events { price: (price: { sku: string; cents: number }) => void; 'message-reply': (message: { roomName: string; text: string }) => void }
interface Message { text: string }
type Requests = { order: (order: { sku: string }) => { id: number } };
const client = connect<Events, Requests>('http://localhost:3001', { token: async () => ({ token: 't', expiresIn: 60 }), socket: { transports: ['websocket'] } });
export async function all(): Promise<Position | undefined> {
  const room = client.join({ resourceId: 7 }, { offset: 0 });
  const off: () => void = room.on('price', ({ cents }) => cents.toFixed());
  room.on('message-reply', ({ text }) => text.length);
  client.on('user-joined', ({ clientName }) => clientName.length);
  room.when('gap', ({ from, to, reason }) => [from + to, reason.length]);
  room.when('reset', ({ before, oldestOffset }) => before.offset + oldestOffset);
  const { offset, roomName } = await room.send({ text: 'Hi' });
  [offset?.toFixed(), roomName?.length];
  const typed: Message = { text: 'Hi' };
  await room.send(typed);
  await room.update(typed);
  const { delivered, queued } = await client.sendTo('bob', 'Hi');
  [delivered, queued] satisfies boolean[];
  const order = await client.request('order', { sku: 'x' });
  order.id.toFixed();
  try { await room.joined; } catch (error) { if (error instanceof RoomcastError) error.code satisfies string; }
  off();
  return room.position;
}
`;
const plain = `
import { connect } from '@roomcast/client';
const client = connect('http://localhost:3001');
client.on('newMessage', ({ sender, content }) => [sender?.length, content]);
client.join('lobby').on('userTyping', ({ isTyping }) => isTyping satisfies boolean);
client.setStatus('away');
`;
const bad = `
import { connect } from '@roomcast/client';
const client = connect<{ price: (price: { cents: number }) => void }, { order: (order: { sku: string }) => { id: number } }>('x');
client.on('prices', () => {}); // wrong
client.on('price', ({ euros }) => euros); // wrong
client.join({ name: 'x' }); // wrong
client.setStatus('asleep'); // wrong
client.request('order', { sku: 7 }); // wrong
client.request('orders', { sku: 'x' }); // wrong
client.send('ping', {}); // wrong
client.join('x').when('lost', () => {}); // wrong
client.request('order', { sku: 'x' }).then((answer) => answer.sku); // wrong
`;

/** The examples of the README, as one program. */
const readme = `export {};\n${[...readFileSync(join(root, 'README.md'), 'utf8').matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, code]) => code).join('')}`;

for (const type of ['module', 'commonjs']) {
  test(`TypeScript takes what is right and refuses every mistake (${type})`, () => {
    const project = join(folder, `ts-${type}`);
    mkdirSync(project);
    const compilerOptions = { strict: true, noEmit: true, skipLibCheck: true, target: 'es2022', module: 'nodenext', moduleResolution: 'nodenext', lib: ['es2022', 'dom'], types: [] };
    // CommonJS has no await outside of functions.
    const files = { ...(type === 'module' && { 'readme.ts': readme }), 'good.ts': good, 'plain.ts': plain, 'bad.ts': bad, 'package.json': JSON.stringify({ type }), 'tsconfig.json': JSON.stringify({ compilerOptions }) };
    for (const [name, text] of Object.entries(files)) writeFileSync(join(project, name), text);
    const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
    const { stdout } = spawnSync(process.execPath, [tsc, '--pretty', 'false', '-p', '.'], { cwd: project, encoding: 'utf8' });
    const found = [...stdout.matchAll(/^([\w./-]+)\((\d+),\d+\): error/gm)].map(([, file, line]) => `${file}:${line}`);
    const wrong = bad.split('\n').flatMap((line, index) => (line.endsWith('// wrong') ? [`bad.ts:${index + 1}`] : []));
    assert.equal(wrong.length, 9);
    assert.deepEqual([...new Set(found)], wrong, stdout);
  });
}
