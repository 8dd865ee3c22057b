// The README's examples, run as they are printed. Only the address is another one: the server's port is a free one.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { within } from './server.mjs';
import { story } from './story.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));

/** The code block of the README below `<!-- example: name -->`. */
async function example(name) {
  const readme = await readFile(join(here, '../../README.md'), 'utf8');
  const found = new RegExp(`<!-- example: ${name} -->\\n\`\`\`\\w+\\n([\\s\\S]*?)\`\`\``).exec(readme);
  assert.ok(found, `the README has no example ${name}`);
  return found[1];
}

/** A directory as a newcomer's, with socket.io-client installed. */
async function withDirectory(use) {
  const directory = await mkdtemp(join(tmpdir(), 'roomcast-readme-'));
  try {
    await mkdir(join(directory, 'node_modules'));
    await symlink(join(here, 'node_modules/socket.io-client-4'), join(directory, 'node_modules/socket.io-client'));
    return await use(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

function run(command, args, directory) {
  // As npm would have installed it: found from the example's own directory.
  const child = spawn(command, args, { cwd: directory, stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = [];
  const waiting = [];
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line);
    waiting.filter((wait) => line.includes(wait.text)).forEach((wait) => wait.done());
  });
  return {
    line: (text) =>
      within(new Promise((done) => (lines.some((line) => line.includes(text)) ? done() : waiting.push({ text, done }))), `"${text}" from ${command}`),
    exit: within(once(child, 'exit'), `the end of ${command}`),
  };
}

story('the first message, as the README prints it', async ({ server }) => {
  await withDirectory(async (directory) => {
    const local = (text) => text.replaceAll('localhost:3001', `127.0.0.1:${new URL(server.url).port}`);
    await writeFile(join(directory, 'hello.mjs'), local(await example('hello.mjs')));
    await writeFile(join(directory, 'hello.sh'), local(await example('hello.sh')));
    const hello = run(process.execPath, ['hello.mjs'], directory);
    await hello.line('joined: lobby');
    const [code] = await run('bash', ['hello.sh'], directory).exit;
    assert.equal(code, 0);
    await hello.line('received: Hello from curl');
    assert.deepEqual(await hello.exit, [0, null]);
  });
});
