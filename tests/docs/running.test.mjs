// Troubleshooting, security and upgrade: the examples, run.
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { test } from 'node:test';
import { ask, connect } from '../clients/client.mjs';
import { startServer } from '../clients/server.mjs';
import { story } from '../clients/story.mjs';
import { SECRET, inSeconds, sign } from '../clients/token.mjs';
import { binary, example, run, start, variables, withFolder } from './examples.mjs';

story('a refused connection says why', { JWT_SECRET: SECRET }, async ({ server }) => {
  await withFolder({ 'connect-error.mjs': await example('connect-error.mjs') }, async (cwd) => {
    const expired = sign({ sub: 'alice', exp: inSeconds(-10) });
    const client = start(process.execPath, ['connect-error.mjs'], { cwd, env: { SERVER: server.url, TOKEN: expired } });
    await client.line('token expired unauthorized');
    await client.line('it does not retry by itself');
    assert.equal((await client.end()).code, 0);
  });
});

test('the server says what is wrong with a token', async () => {
  await withFolder({ 'check-token.sh': await example('check-token.sh') }, async (cwd) => {
    const env = { PATH: `${dirname(binary())}${delimiter}${process.env.PATH}`, JWT_SECRET: SECRET };
    const good = sign({ sub: 'alice', exp: inSeconds(60) });
    assert.match(await run('bash', ['check-token.sh'], { cwd, env: { ...env, TOKEN: good } }), /alice/);
    const { code, output } = await start('bash', ['check-token.sh'], { cwd, env: { ...env, TOKEN: sign({ sub: 'alice', exp: 1 }) } }).end();
    assert.notEqual(code, 0);
    assert.match(output, /token expired/);
  });
});

story('a refused event says why', async ({ server }) => {
  await withFolder({ 'why-refused.mjs': await example('why-refused.mjs') }, async (cwd) => {
    const output = await run(process.execPath, ['why-refused.mjs'], { cwd, env: { SERVER: server.url } });
    assert.match(output, /^message: no_room: .*did you mean "roomName"\?/m);
  });
});

test('the hardened configuration is valid, and no warning is left', async () => {
  const env = variables(await example('hardened.env'));
  await withFolder({}, async (cwd) => {
    const output = await run(binary(), ['--check-config'], { cwd, env });
    for (const name of Object.keys(env)) assert.ok(output.includes(`\n${name}=`), `${name} is not in:\n${output}`);
    assert.doesNotMatch(output, /warning/i);
  });
});

test('the systemd unit has what it needs', async () => {
  const unit = {};
  for (const line of (await example('roomcast.service')).split('\n').filter((line) => /^[^#[]/.test(line))) {
    const [, name, value] = /^(\w+)=(.*)$/.exec(line) ?? assert.fail(line);
    assert.ok(!(name in unit), `${name} stands twice`);
    unit[name] = value;
  }
  assert.equal(unit.WorkingDirectory, `/var/lib/${unit.StateDirectory}`);
  assert.ok(Number(unit.TimeoutStopSec) > 10, 'longer than SHUTDOWN_GRACE');
  assert.ok(Number(unit.LimitNOFILE) > 10_000);
});

test('a downgrade is refused, and the backup brings everything back', async () => {
  const scripts = { 'backup.sh': await example('backup.sh'), 'restore.sh': await example('restore.sh') };
  await withFolder(scripts, async (cwd) => {
    await mkdir(join(cwd, 'data'));
    const file = join(cwd, 'data/roomcast.db');
    const env = { STORE_URL: `sqlite:${file}` };
    const first = await startServer(env);
    const writer = await connect(first);
    assert.equal((await ask(writer, 'message', { roomName: 'lobby', text: 'before the upgrade' })).offset, 1);
    writer.close();
    await run('bash', ['backup.sh'], { cwd });
    await first.stop();

    // As a newer version would leave it.
    await run('sqlite3', [file, 'PRAGMA user_version = 99'], { cwd });
    const { code, output } = await start(binary(), [], { cwd, env: { ...env, PORT: '0', HOST: '127.0.0.1' } }).end();
    assert.equal(code, 1, output);
    assert.match(output, /^roomcast cannot start: .* has schema version 99, this roomcast knows versions up to \d+; run the newer roomcast$/m);
    assert.equal(await run('sqlite3', [file, 'PRAGMA user_version'], { cwd }), '99');

    await run('bash', ['restore.sh'], { cwd });
    const second = await startServer(env);
    try {
      const reader = await connect(second);
      const history = await ask(reader, 'syncMessages', { roomId: 'lobby' });
      assert.equal(history.syncedMessageCount, 1);
      reader.close();
    } finally {
      await second.stop();
    }
  });
});
