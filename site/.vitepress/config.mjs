// The static site of docs/: its navigation, its search, and where it is written.
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitepress';

const root = fileURLToPath(new URL('../../', import.meta.url));
const docs = join(root, 'docs');

/** A page of the navigation, named by its first heading. */
function page(file) {
  const [, text] = /^# (.+)$/m.exec(readFileSync(join(docs, file), 'utf8'));
  return { text: text.replaceAll('`', ''), link: `/${file.replace(/\.md$/, '')}` };
}

const group = (text, files, collapsed = false) => ({ text, collapsed, items: files.map(page) });
const decisions = readdirSync(join(docs, 'decisions')).filter((file) => file.endsWith('.md')).sort();

const sidebar = [
  group('First steps', ['javascript', 'typescript', 'angular', 'react', 'python', 'mobile'].map((name) => `getting-started/${name}.md`)),
  group('Clients', ['messages.md', 'recovery.md', 'authentication.md', 'reference.md', 'guarantees.md', 'migration.md']),
  group('Backends', ['publishing.md', 'http-api.md', 'handlers.md', 'webhooks.md']),
  group('Operation', ['install.md', 'configuration.md', 'deploy.md', 'security.md', 'scaling.md', 'operations.md', 'upgrade.md', 'metrics.md', 'cli.md', 'admin-ui.md', 'troubleshooting.md']),
  { text: 'Inside', collapsed: true, items: [page('ARCHITECTURE.md'), ...decisions.map((file) => page(`decisions/${file}`))] },
];

/** Links to files that are not pages of the site become plain text; a link to the decisions leads to the first one. */
function links(md) {
  md.core.ruler.push('links', ({ tokens, env }) => {
    for (const { children } of tokens) {
      let isOutside = false;
      for (const token of children ?? []) {
        if (token.type === 'link_open') {
          const [path] = token.attrGet('href').split('#');
          const target = posix.join(dirname(env.relativePath), path);
          if (target === 'decisions/') token.attrSet('href', `./decisions/${decisions[0]}`);
          isOutside = !/^[a-z]+:/.test(path) && (target.startsWith('..') || (path !== '' && !/(\.md|\/)$/.test(path)));
          if (isOutside) Object.assign(token, { tag: 'span', attrs: [['title', `${target.replace(/^(\.\.\/)+/, '')}, in the source`]] });
        } else if (token.type === 'link_close' && isOutside) {
          token.tag = 'span';
          isOutside = false;
        }
      }
    }
  });
}

export default defineConfig({
  title: 'roomcast',
  description: 'A Socket.IO compatible room server',
  srcDir: '../docs',
  outDir: '../target/site',
  cacheDir: '../target/site-cache',
  base: process.env.SITE_BASE ?? '/',
  rewrites: { 'README.md': 'index.md' },
  cleanUrls: false,
  markdown: { config: links, languageAlias: { haproxy: 'nginx' } },
  // The pages lie outside of this folder, from where Node finds no packages.
  vite: {
    resolve: {
      alias: [
        { find: /^vue$/, replacement: fileURLToPath(import.meta.resolve('vue/dist/vue.runtime.esm-bundler.js')) },
        { find: /^vue\/server-renderer$/, replacement: fileURLToPath(import.meta.resolve('vue/server-renderer')) },
      ],
    },
  },
  themeConfig: {
    sidebar,
    search: { provider: 'local' },
    outline: [2, 3],
    nav: [
      { text: 'Reference', link: '/reference' },
      { text: 'Troubleshooting', link: '/troubleshooting' },
    ],
  },
});
