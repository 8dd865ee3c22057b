// Builds the application for production, unless what lies in dist was built from these very sources.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';

const root = fileURLToPath(new URL('.', import.meta.url));
const dist = join(root, 'dist');
const stamp = join(dist, '.stamp');

/** A hash over everything that the build depends on. */
function sources() {
  const hash = createHash('sha256');
  const files = readdirSync(join(root, 'src')).sort().map((name) => join('src', name));
  for (const file of ['package-lock.json', 'angular.json', 'tsconfig.json', ...files]) {
    hash.update(`${file}\0`).update(readFileSync(join(root, file))).update('\0');
  }
  return hash.digest('hex');
}

/** The folder with the built application. */
export function build() {
  const current = sources();
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === current) return dist;
  rmSync(dist, { recursive: true, force: true });
  const { status, error, stdout, stderr } = spawnSync(
    process.execPath,
    [join(root, 'node_modules/@angular/cli/bin/ng.js'), 'build'],
    { cwd: root, env: { ...process.env, NG_CLI_ANALYTICS: 'false', CI: 'true' }, encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`ng build failed: ${error ?? ''}\n${stdout}\n${stderr}`);
  writeFileSync(stamp, current);
  return dist;
}
