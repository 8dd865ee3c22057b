// What ./release.sh makes, and docs/install.md says of it.
import assert from 'node:assert/strict';
import { copyFile, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { ask, connect, next } from '../clients/client.mjs';
import { binary, example, freePort, root, run, start, withFolder } from './examples.mjs';

const read = (path) => readFile(join(root, path), 'utf8');
const version = async () => /^version = "(.*)"/m.exec(await read('Cargo.toml'))[1];

/** A release for amd64 with the tested program, without its symbols. */
async function withRelease(use) {
  await withFolder({}, async (cwd) => {
    const program = join(cwd, 'program');
    await run('strip', ['-o', program, binary()], { cwd });
    const env = {
      DIST: join(cwd, 'dist'),
      ARCHITECTURES: 'amd64',
      ROOMCAST_BIN: program,
      DPKG_DEB_COMPRESSOR_TYPE: 'gzip',
      DPKG_DEB_COMPRESSOR_LEVEL: '1',
    };
    await run('./release.sh', ['binaries', 'deb', 'chart', 'checksums'], { cwd: root, env, milliseconds: 240_000 });
    await use(cwd, await version());
  });
}

test('the packages hold what the page says, and the program of the archive brings a first message', async () => {
  await withRelease(async (cwd, version) => {
    await run('sha256sum', ['--check', '--strict', 'SHA256SUMS'], { cwd: join(cwd, 'dist') });
    const archive = `roomcast-${version}-linux-amd64.tar.gz`;
    await copyFile(join(cwd, 'dist', archive), join(cwd, archive));
    const port = await freePort();
    const script = await example('tarball.sh');
    assert.ok(script.includes(archive), `${archive} in docs/install.md`);
    const server = start('bash', ['-c', script.replace(/\n\.\//, '\nexec ./')], { cwd, env: { PORT: `${port}`, HOST: '127.0.0.1' } });
    try {
      await server.line('listening');
      const socket = await connect({ url: `http://127.0.0.1:${port}` });
      assert.equal((await ask(socket, 'join-room', { roomName: 'lobby' })).success, true);
      socket.emit('message', { roomName: 'lobby', message: 'Hello', replyToSender: true });
      assert.equal((await next(socket, 'message-reply')).message, 'Hello');
      socket.close();
    } finally {
      await server.stop();
    }
    assert.ok((await stat(join(cwd, 'data/roomcast.db'))).size > 0);

    const deb = join(cwd, 'dist', `roomcast_${version}_amd64.deb`);
    const field = async (name) => (await run('dpkg-deb', ['--field', deb, name], { cwd })).trim();
    assert.equal(await field('Version'), version);
    assert.match(await field('Depends'), /^libc6 \(>= 2\.\d+\), adduser, ca-certificates$/);
    await run('dpkg-deb', ['--raw-extract', deb, 'deb'], { cwd });
    const packed = (path) => readFile(join(cwd, 'deb', path), 'utf8');
    assert.equal(await packed('DEBIAN/conffiles'), '/etc/roomcast/roomcast.env\n');
    assert.equal((await stat(join(cwd, 'deb/etc/roomcast/roomcast.env'))).mode & 0o777, 0o640);
    for (const script of ['postinst', 'prerm', 'postrm']) await run('sh', ['-n', `deb/DEBIAN/${script}`], { cwd });
    const unit = await packed('lib/systemd/system/roomcast.service');
    assert.match(unit, /^ExecStart=\/usr\/bin\/roomcast$/m);
    assert.match(unit, /^User=roomcast$/m);
    const lines = (await packed('etc/roomcast/roomcast.env')).split('\n').filter((line) => /^[A-Z_]+=./.test(line));
    const env = Object.fromEntries(lines.map((line) => line.split(/=(.*)/s).slice(0, 2)));
    assert.equal(env.HOST, '127.0.0.1');
    env.CLIENT_BUNDLE_DIR = join(cwd, 'deb', env.CLIENT_BUNDLE_DIR);
    const output = await run('deb/usr/bin/roomcast', ['--check-config'], { cwd, env });
    assert.ok(output.includes('HOST=127.0.0.1'), output);
    assert.ok((await stat(join(env.CLIENT_BUNDLE_DIR, 'socket.io.min.js'))).size > 0);
  });
});

test('the image of a release is that of the Dockerfile, and everything names one version', async () => {
  const stage = (text) => text.slice(text.lastIndexOf('\nFROM '));
  const compiled = stage(await read('Dockerfile'));
  const released = stage(await read('docker/release.Dockerfile'));
  const lines = (text) => text.split('\n').filter((line) => !/^COPY --from=(build|certificates|client-bundle)|^COPY dist|^ARG TARGETARCH|^# amd64 or/.test(line));
  assert.deepEqual(lines(released), lines(compiled));
  const current = await version();
  const chart = parse(await read('deploy/helm/Chart.yaml'));
  assert.deepEqual([chart.version, chart.appVersion], [current, current]);
  for (const file of ['docker-compose.yml', 'docker-compose.cluster.yml']) {
    assert.ok((await read(file)).includes(`image: \${ROOMCAST_IMAGE:-roomcast:${current}}`), file);
  }
  assert.ok((await read('docs/install.md')).includes(`roomcast_${current}_amd64.deb`));
});

test('the chart sets nothing that the server does not know', async () => {
  const { settings } = parse(await read('deploy/helm/values.yaml'));
  await withFolder({}, async (cwd) => {
    const output = await run(binary(), ['--check-config'], { cwd, env: settings });
    for (const [name, value] of Object.entries(settings)) assert.ok(output.includes(`${name}=${value}`), output);
  });
});
