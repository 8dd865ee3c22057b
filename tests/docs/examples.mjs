// The documents' examples, and what it takes to run them as they are printed.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { within } from '../clients/server.mjs';

export const root = fileURLToPath(new URL('../../', import.meta.url));
const ownModules = fileURLToPath(new URL('node_modules', import.meta.url));

/** The paths of all documents below `docs/`, from the root of the project. */
export async function documents() {
  const files = await readdir(join(root, 'docs'), { recursive: true });
  return files.filter((file) => file.endsWith('.md')).sort().map((file) => join('docs', file));
}

/** The code blocks of a document: where, in which language, what stands in the comment above, and the code. */
export function blocks(path, text) {
  const found = [];
  let open;
  let above = '';
  text.split('\n').forEach((line, index) => {
    if (open) {
      if (line === '```') {
        found.push(open);
        open = undefined;
      } else open.code += `${line}\n`;
    } else if (line.startsWith('```')) {
      open = { path, line: index + 1, language: line.slice(3), mark: /^<!-- (.*) -->$/.exec(above)?.[1], code: '' };
    }
    above = line;
  });
  assert.equal(open, undefined, `${path} has a code block without an end`);
  return found;
}

/** The code blocks of all documents. */
export async function allBlocks() {
  const pages = await Promise.all((await documents()).map(async (path) => blocks(path, await readFile(join(root, path), 'utf8'))));
  return pages.flat();
}

/** The code of the example below `<!-- test: name -->`. */
export async function example(name) {
  const found = (await allBlocks()).filter((block) => block.mark === `test: ${name}`);
  assert.equal(found.length, 1, `${found.length} examples are named ${name}`);
  return found[0].code;
}

/** A folder as a newcomer's, with these examples and files in it and what npm would have installed; `use` gets its path. */
export async function withFolder(files, use, modules = ownModules) {
  const home = await mkdtemp(join(tmpdir(), 'roomcast-docs-'));
  const folder = join(home, 'app');
  try {
    // This project's own package; Node looks for packages in the folder above, too.
    await mkdir(join(home, 'node_modules/@roomcast'), { recursive: true });
    await symlink(join(root, 'packages/client'), join(home, 'node_modules/@roomcast/client'));
    await mkdir(folder);
    await symlink(modules, join(folder, 'node_modules'));
    for (const [name, text] of Object.entries(files)) {
      await mkdir(dirname(join(folder, name)), { recursive: true });
      await writeFile(join(folder, name), text);
    }
    return await use(folder);
  } finally {
    await rm(home, { recursive: true });
  }
}

/** Replaces a text that must be there: an example that has changed must not run against the wrong server unnoticed. */
export function replaced(text, from, to) {
  assert.ok(text.includes(from), `"${from}" is not in:\n${text}`);
  return text.replaceAll(from, to);
}

/**
 * Starts a program. `line(text)` waits for a line of its output that has the text, `lines()` are all so far; `end()` answers its exit code and
 * all of its output, within `milliseconds`; `stop()` ends it.
 */
export function start(command, args, { cwd, env = {}, milliseconds = 60_000 } = {}) {
  const child = spawn(command, args, {
    cwd,
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines = [];
  const waiting = new Set();
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      lines.push(line);
      for (const wait of waiting) wait();
    });
  }
  const closed = once(child, 'close');
  closed.catch(() => {}); // Whoever asks for the end hears of it.
  const said = () => `${command} ${args.join(' ')} said:\n${lines.join('\n')}`;
  return {
    lines: () => [...lines],
    line(text) {
      const arrival = new Promise((done) => {
        const wait = () => {
          const found = lines.find((line) => line.includes(text));
          if (found !== undefined) waiting.delete(wait), done(found);
        };
        waiting.add(wait);
        wait();
      });
      return within(arrival, () => `"${text}": ${said()}`, 30_000);
    },
    async end() {
      const [code] = await within(closed, () => `the end; ${said()}`, milliseconds);
      return { code, output: lines.join('\n') };
    },
    async stop() {
      child.kill('SIGTERM');
      await within(closed, () => `the end after SIGTERM; ${said()}`);
    },
  };
}

/** Runs a program to its end, which must be a success; its output. */
export async function run(command, args, options) {
  const { code, output } = await start(command, args, options).end();
  assert.equal(code, 0, `${command} ${args.join(' ')} failed:\n${output}`);
  return output;
}

/** A port that is free at this moment. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** The variables of an example such as a .env file. */
export function variables(text) {
  return Object.fromEntries(text.trim().split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
}

/** The server under test. */
export const binary = () => resolve(process.env.ROOMCAST_BIN);

/** The Python of the tests' own environment. */
export function python() {
  assert.ok(process.env.DOCS_PYTHON, 'DOCS_PYTHON is not set: name a Python with the packages of requirements.txt');
  return resolve(process.env.DOCS_PYTHON);
}
