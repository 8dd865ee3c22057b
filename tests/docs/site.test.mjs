// The documents as a static site.
import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { documents, root, run } from './examples.mjs';

test('the site has every document, finds words, and links to no page that is not there', async () => {
  // A dead link between the pages fails the build.
  await run(process.execPath, [join(root, 'site/node_modules/vitepress/bin/vitepress.js'), 'build'], {
    cwd: join(root, 'site'),
    milliseconds: 250_000,
  });
  const site = join(root, 'target/site');
  const built = new Set(await readdir(site, { recursive: true }));
  for (const document of await documents()) {
    const page = document.replace(/^docs\//, '').replace(/README\.md$/, 'index.md').replace(/\.md$/, '.html');
    assert.ok(built.has(page), page);
  }
  assert.match(await readFile(join(site, 'index.html'), 'utf8'), /Documentation/);
  const index = [...built].find((file) => /localSearchIndexroot.*\.js$/.test(file));
  assert.match(await readFile(join(site, index), 'utf8'), /"noeviction"|noeviction/);
});
