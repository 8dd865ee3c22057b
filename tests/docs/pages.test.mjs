// Every example is run by a test or says why not; every link leads somewhere.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { allBlocks, documents, root } from './examples.mjs';

const read = (path) => readFile(join(root, path), 'utf8');

test('every code block is run by a test, stands in a file that is, or says why not', async () => {
  const here = join(root, 'tests/docs');
  const tests = (await readdir(here)).filter((file) => file.endsWith('.test.mjs'));
  const sources = (await Promise.all(tests.map((file) => read(`tests/docs/${file}`)))).join('\n');
  const names = new Set();
  const faults = [];
  for (const { path, line, language, mark, code } of await allBlocks()) {
    const at = `${path}:${line}`;
    const [, kind, rest] = /^(test|from|not run): (.+)$/.exec(mark ?? '') ?? [];
    if (kind === 'test') {
      if (names.has(rest)) faults.push(`${at}: a second example is named ${rest}`);
      names.add(rest);
      if (!sources.includes(`'${rest}'`)) faults.push(`${at}: no test runs the example ${rest}`);
    } else if (kind === 'from') {
      if (!(await read(rest)).includes(code)) faults.push(`${at}: it does not stand in ${rest}`);
    } else if (kind === undefined && language !== 'text') {
      faults.push(`${at}: above it must stand <!-- test: … -->, <!-- from: … --> or <!-- not run: … -->`);
    }
  }
  assert.deepEqual(faults, []);
  assert.ok(names.size > 20, `only ${names.size} examples were found`);
});

test('the README is short', async () => {
  const words = (await read('README.md')).split(/\s+/).length;
  assert.ok(words < 1200, `it has ${words} words`);
});

/** The anchors that GitHub gives to a document's headings. */
function anchors(text) {
  const seen = new Map();
  const found = new Set();
  for (const [, heading] of withoutCode(text).matchAll(/^#{1,6} (.+)$/gm)) {
    const slug = heading
      .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replace(/\s/g, '-');
    const count = seen.get(slug) ?? 0;
    seen.set(slug, count + 1);
    found.add(count ? `${slug}-${count}` : slug);
  }
  return found;
}

const withoutCode = (text) => text.replace(/^```[\s\S]*?^```$/gm, '').replace(/`[^`\n]*`/g, (code) => code.replace(/[[\]()]/g, ''));

test('every link leads to a file, and to a heading of it', async () => {
  const faults = [];
  let links = 0;
  for (const path of ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', 'bench/README.md', ...(await documents())]) {
    for (const [, target] of withoutCode(await read(path)).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      links += 1;
      const [file, anchor] = target.split('#');
      const to = file ? join(dirname(path), file) : path;
      if (to.startsWith('..') || !existsSync(join(root, to))) faults.push(`${path}: there is no ${target}`);
      else if (anchor && !anchors(await read(to)).has(anchor)) faults.push(`${path}: ${to} has no heading #${anchor}`);
    }
  }
  assert.deepEqual(faults, []);
  assert.ok(links > 40, `only ${links} links were found`);
});
