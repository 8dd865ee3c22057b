// Tokens as each recipe issues them, taken by the server; and clients that renew them.
import assert from 'node:assert/strict';
import { generateKeyPairSync, sign as signed } from 'node:crypto';
import { once } from 'node:events';
import { symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { transform } from 'esbuild';
import { ask, next } from '../clients/client.mjs';
import { startServer, within } from '../clients/server.mjs';
import { story } from '../clients/story.mjs';
import { SECRET, inSeconds, sign } from '../clients/token.mjs';
import { binary, example, python, replaced, run, start, variables, withFolder } from './examples.mjs';

/** Connects with a token, and finds that it says who and where. */
async function accepted({ connect }, token, { user = '7', name = 'Ada', room = 'team-3' } = {}) {
  const socket = await connect({ auth: { token } });
  const joined = await ask(socket, 'join-room', { roomName: room });
  assert.equal(joined.success, true, joined.message);
  assert.equal(joined.clientName, name);
  assert.equal((await ask(socket, 'join-room', { roomName: `not-${room}` })).code, 'forbidden');
  assert.equal((await ask(socket, 'sendMessage', { roomId: room, content: 'Hi' })).success, true);
  assert.equal((await next(socket, 'newMessage')).sender, user);
}

test('a token to try with', async () => {
  await withFolder({ 'token.sh': await example('token.sh') }, async (cwd) => {
    await symlink(binary(), join(cwd, 'roomcast'));
    const output = await run('bash', ['token.sh'], { cwd, env: { PATH: `${cwd}:${process.env.PATH}` } });
    for (const part of ['alice', 'Alice', 'team-*', 'lobby']) assert.ok(output.includes(part), output);
  });
});

story('tokens that are revoked', { JWT_SECRET: SECRET, API_KEYS: 'a-key' }, async ({ server, connect }) => {
  const token = (claims) => sign({ sub: 'alice', exp: inSeconds(600), ...claims });
  const socket = await connect({ auth: { token: token({ jti: 'the-id-of-one-token' }) } });
  const old = await connect({ auth: { token: token({ iat: 1 }) } });
  const mallory = await connect({ auth: { token: token({ sub: 'mallory' }) } });
  const told = [socket, old, mallory].map((client) => next(client, 'token-revoked'));
  await withFolder({ 'revoke.sh': await example('revoke.sh') }, async (cwd) => {
    const output = await run('bash', ['-e', 'revoke.sh'], { cwd, env: { PATH: process.env.PATH, ROOMCAST_URL: server.url, ROOMCAST_KEY: 'a-key' } });
    assert.equal(output.match(/"createdAt"/g).length, 3, output);
  });
  await Promise.all(told);
});

story('NestJS', { JWT_SECRET: SECRET }, async (world) => {
  const { code } = await transform(await example('nestjs.ts'), {
    loader: 'ts',
    tsconfigRaw: { compilerOptions: { experimentalDecorators: true } },
  });
  const main = `
import "reflect-metadata";
import { JwtService } from "@nestjs/jwt";
import { RoomTokens } from "./tokens.mjs";
console.log(new RoomTokens(new JwtService({})).issue({ id: 7, name: "Ada", teams: ["3"] }));
`;
  await withFolder({ 'tokens.mjs': code, 'main.mjs': main }, async (cwd) => {
    await accepted(world, await run(process.execPath, ['main.mjs'], { cwd, env: { JWT_SECRET: SECRET } }));
  });
});

story('Laravel', { JWT_SECRET: SECRET }, async (world) => {
  const main = `<?php
require 'token.php';
echo (new App\\Services\\RoomToken(getenv('JWT_SECRET')))->issue('7', 'Ada', ['team-3']);
`;
  await withFolder({ 'token.php': await example('laravel.php'), 'main.php': main }, async (cwd) => {
    await accepted(world, await run('php', ['main.php'], { cwd, env: { JWT_SECRET: SECRET } }));
  });
});

story('Django', { JWT_SECRET: SECRET }, async (world) => {
  const main = `
import os
from types import SimpleNamespace
from django.conf import settings
settings.configure(
    JWT_SECRET=os.environ["JWT_SECRET"],
    SECRET_KEY="x",
    LOGIN_URL="/login",
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF="urls",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
)
import django
django.setup()
from django.test import RequestFactory
from view import room_token
request = RequestFactory().get("/room-token")
groups = SimpleNamespace(all=lambda: [SimpleNamespace(pk=3)])
request.user = SimpleNamespace(is_authenticated=False)
assert room_token(request).status_code == 302
request.user = SimpleNamespace(is_authenticated=True, pk=7, get_username=lambda: "Ada", groups=groups)
print(room_token(request).content.decode())
`;
  await withFolder({ 'view.py': await example('django_view.py'), 'urls.py': URLS, 'main.py': main }, async (cwd) => {
    const answer = JSON.parse(await run(python(), ['main.py'], { cwd, env: { JWT_SECRET: SECRET, PYTHONDONTWRITEBYTECODE: '1' } }));
    assert.equal(answer.userId, '7');
    assert.equal(answer.expiresIn, 900);
    await accepted(world, answer.token);
  });
});

const URLS = `
from django.urls import path
from view import room_token
urlpatterns = [path("room-token", room_token)]
`;

const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** An issuer with a key pair, which publishes the public key at any path. */
async function issuer() {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const key = { ...publicKey.export({ format: 'jwk' }), kid: 'k-1', use: 'sig', alg: 'RS256' };
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ keys: [key] }));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    issue(claims) {
      const content = `${part({ alg: 'RS256', typ: 'JWT', kid: 'k-1' })}.${part({ exp: inSeconds(600), ...claims })}`;
      return `${content}.${signed('sha256', Buffer.from(content), privateKey).toString('base64url')}`;
    },
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** What the action adds to Auth0's access token. */
async function auth0Claims() {
  return withFolder({ 'action.cjs': await example('auth0-action.cjs') }, async (folder) => {
    const { onExecutePostLogin } = createRequire(import.meta.url)(join(folder, 'action.cjs'));
    const claims = {};
    const api = { accessToken: { setCustomClaim: (name, value) => (claims[name] = value) } };
    await onExecutePostLogin({ user: { name: 'Ada', app_metadata: { team: 3 } } }, api);
    return claims;
  });
}

const issuers = [
  { name: 'auth0.env', user: 'auth0|5f7c', claims: auth0Claims },
  { name: 'keycloak.env', user: '9a3f0c4e-1111-4222-8333-444455556666', claims: async () => ({ name: 'Ada', rooms: ['team-3'] }) },
];
for (const { name, user, claims } of issuers) {
  test(`keys that an issuer publishes: ${name}`, async () => {
    const settings = variables(await example(name));
    const known = await issuer();
    const stranger = await issuer();
    const [origin] = /^https:\/\/[^/]+/.exec(settings.JWT_JWKS_URL);
    const server = await startServer({ ...settings, JWT_JWKS_URL: replaced(settings.JWT_JWKS_URL, origin, known.url) });
    const sockets = [];
    try {
      const { connect } = await import('../clients/client.mjs');
      const world = {
        connect: async (options) => {
          const socket = await connect(server, options);
          sockets.push(socket);
          return socket;
        },
      };
      const said = { sub: user, iss: settings.JWT_ISSUER, aud: [settings.JWT_AUDIENCE, 'account'], ...(await claims()) };
      await accepted(world, known.issue(said), { user });
      await assert.rejects(world.connect({ auth: { token: known.issue({ ...said, iss: 'https://elsewhere' }) } }), /iss/);
      await assert.rejects(world.connect({ auth: { token: known.issue({ ...said, aud: 'other' }) } }), /aud/);
      await assert.rejects(world.connect({ auth: { token: stranger.issue(said) } }), /signature/i);
    } finally {
      for (const socket of sockets) socket.close();
      await server.stop();
      known.close();
      stranger.close();
    }
  });
}

story('clients: a token for each connect', { JWT_SECRET: SECRET }, async ({ server }) => {
  await withFolder({ 'clients.mjs': await example('clients.mjs') }, async (folder) => {
    const { connect } = await import(pathToFileURL(join(folder, 'clients.mjs')).href);
    const socket = connect(server.url, async () => ({ token: sign({ sub: 'alice' }) }));
    await within(new Promise((done) => socket.on('connect', done)), 'a connection');
    socket.close();
    const refused = connect(server.url, async () => Promise.reject(new Error('signed out')));
    const error = await within(new Promise((done) => refused.on('connect_error', done)), 'a refusal');
    refused.close();
    assert.match(error.message, /^authentication required/);
  });
});

story('clients: renewal before the token ends, and a new connection where it came too late', { JWT_SECRET: SECRET }, async ({ server }) => {
  await withFolder({ 'renewal.mjs': await example('renewal.mjs') }, async (folder) => {
    const { connectWithToken } = await import(pathToFileURL(join(folder, 'renewal.mjs')).href);
    const fresh = () => ({ token: sign({ sub: 'alice', exp: inSeconds(3) }), expiresIn: 3 });
    const client = connectWithToken(server.url, async () => fresh());
    let ended = 0;
    client.when('disconnected', () => (ended += 1));
    try {
      for (let renewals = 0; renewals < 2; renewals++) {
        await within(new Promise((done) => client.socket.once('authenticated', done)), 'a renewal');
      }
      assert.equal(ended, 0);
    } finally {
      client.close();
    }

    // A renewal that comes too late on purpose.
    let fetched = 0;
    const late = connectWithToken(server.url, async () => {
      fetched += 1;
      if (fetched === 1) throw new Error('not yet');
      return fresh();
    }, { renewBefore: 1 });
    const happens = (what) => within(new Promise((done) => late.when(what, done)), what);
    try {
      await happens('token-failed');
      await happens('connected');
      await happens('disconnected');
      await happens('connected');
      assert.equal(fetched, 3);
    } finally {
      late.close();
    }
  });
});
