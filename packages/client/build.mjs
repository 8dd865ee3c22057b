// Builds dist/esm and dist/cjs. The events' types are the repository's generated ones, copied at each build, so that they cannot differ.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('.', import.meta.url));
const at = (...parts) => join(root, ...parts);
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');

function compile(...options) {
  const { status, stdout } = spawnSync(process.execPath, [tsc, '--pretty', 'false', '-p', at('tsconfig.json'), ...options], { encoding: 'utf8' });
  if (status === 0) return;
  process.stderr.write(stdout);
  process.exit(1);
}

const events = readFileSync(at('../../types/index.d.ts'), 'utf8');
const copy = at('src/events.ts');
if (!existsSync(copy) || readFileSync(copy, 'utf8') !== events) writeFileSync(copy, events);
copyFileSync(at('../../LICENSE'), at('LICENSE'));

rmSync(at('dist'), { recursive: true, force: true });
compile();
// A package of CommonJS inside the package of modules.
compile('--module', 'commonjs', '--moduleResolution', 'node10', '--verbatimModuleSyntax', 'false', '--outDir', at('dist/cjs'));
mkdirSync(at('dist/cjs'), { recursive: true });
writeFileSync(at('dist/cjs/package.json'), '{ "type": "commonjs" }\n');
