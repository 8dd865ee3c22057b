// Builds the two applications for production, unless what lies in dist was built from these very sources.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';

const root = fileURLToPath(new URL('.', import.meta.url));
const client = fileURLToPath(new URL('../../packages/client/dist/esm', import.meta.url));

const configuration = ['package-lock.json', 'angular.json', 'tsconfig.json', 'tsconfig.service.json'].map((name) => join(root, name));

/** A hash over everything that the build depends on. */
function sources(folders) {
  const hash = createHash('sha256');
  const files = folders.flatMap((folder) => readdirSync(folder).sort().map((name) => join(folder, name)));
  for (const file of [...configuration, ...files]) hash.update(`${file}\0`).update(readFileSync(file)).update('\0');
  return hash.digest('hex');
}

/** The folder with the built application: `room` is on ngx-socket-io, `service` on @roomcast/client. */
export function build(project) {
  const dist = join(root, 'dist', project);
  const stamp = join(dist, '.stamp');
  const current = sources(project === 'room' ? [join(root, 'src')] : [join(root, 'service'), client]);
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === current) return dist;
  rmSync(dist, { recursive: true, force: true });
  const { status, error, stdout, stderr } = spawnSync(
    process.execPath,
    [join(root, 'node_modules/@angular/cli/bin/ng.js'), 'build', project],
    { cwd: root, env: { ...process.env, NG_CLI_ANALYTICS: 'false', CI: 'true' }, encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`ng build failed: ${error ?? ''}\n${stdout}\n${stderr}`);
  writeFileSync(stamp, current);
  return dist;
}
