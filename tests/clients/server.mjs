// Starts and stops the real server, one per story, so that no story sees another one's rooms.
// Node's own modules only: the Angular story uses this file too.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

/** How long anything that must happen may take, in milliseconds. Only a failing test waits this long. */
export const DEADLINE_MS = 10_000;

/** Less than SHUTDOWN_GRACE (10 s): the clients of a story have gone, so there is nothing that is worth its whole grace. */
const EXIT_DEADLINE_MS = 8_000;

/** The promise's value, or an error that says what was awaited when the deadline passes. */
export function within(promise, what, milliseconds = DEADLINE_MS) {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => {
      const said = typeof what === 'function' ? what() : what;
      reject(new Error(`not within ${milliseconds} ms: ${said}`));
    }, milliseconds);
  });
  return Promise.race([promise, deadline]).finally(() => clearTimeout(timer));
}

/** The path of the server to test. */
export function binary() {
  const path = process.env.ROOMCAST_BIN;
  if (!path) {
    throw new Error(
      'ROOMCAST_BIN is not set: name the server to test, for example ROOMCAST_BIN=target/debug/roomcast',
    );
  }
  return resolve(path);
}

/**
 * Starts the server on a free port with an in-memory store and waits until it listens.
 *
 * `env` is laid over the defaults. The environment of the test run itself is not inherited: a JWT_SECRET
 * in a developer's shell must not change a story.
 *
 * With ROOMCAST_TEST_REDIS=<url> it is ROOMCAST_TEST_NODES nodes (1) over that Redis, under a prefix of its own: its
 * `url` is that of one after the other.
 */
export async function startServer(env = {}) {
  const redis = process.env.ROOMCAST_TEST_REDIS;
  if (!redis || env.REDIS_URL) return startNode(env);
  const shared = { REDIS_URL: redis, REDIS_PREFIX: randomUUID(), ...env };
  const nodes = await Promise.all(Array.from({ length: Number(process.env.ROOMCAST_TEST_NODES ?? 1) }, () => startNode(shared)));
  try {
    for (const node of nodes) {
      const ready = async () => {
        while ((await fetch(`${node.url}/health/ready`)).status !== 200) await new Promise((done) => setImmediate(done));
      };
      await within(ready(), () => `a node that is ready:\n${node.tail()}`);
    }
  } catch (error) {
    await Promise.allSettled(nodes.map((node) => node.stop()));
    throw error;
  }
  let turn = 0;
  return {
    get url() {
      return nodes[turn++ % nodes.length].url;
    },
    get port() {
      return nodes[0].port;
    },
    tail: () => nodes.map((node) => node.tail()).join('\n\n'),
    async stop() {
      await Promise.all(nodes.map((node) => node.stop()));
    },
  };
}

/**
 * Tells a story against a server of its own. Whatever becomes of it, `close` ends what it has opened, and the server
 * must then end cleanly; of a story that fails, `report` is told what the server's log ended with.
 */
export async function withServer(env, tell, close, report) {
  const server = await startServer(env);
  let failure;
  try {
    await tell(server);
  } catch (error) {
    failure = error;
    report(`the server's log ended with:\n${server.tail()}`);
  }
  close();
  try {
    await server.stop();
  } catch (error) {
    failure ??= error; // What went wrong first is what to read.
  }
  if (failure) throw failure;
}

async function startNode(env) {
  const directory = await mkdtemp(join(tmpdir(), 'roomcast-clients-'));
  const child = spawn(binary(), [], {
    cwd: directory,
    env: {
      PATH: process.env.PATH,
      RUST_BACKTRACE: '1',
      PORT: '0',
      HOST: '127.0.0.1',
      STORE_URL: 'memory:',
      LOG_FORMAT: 'json',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const killed = () => child.kill('SIGKILL');
  process.once('exit', killed);

  const lines = [];
  const exited = new Promise((done, failed) => {
    child.once('error', failed);
    child.once('exit', (code, signal) => done({ code, signal }));
  });
  exited.catch(() => {}); // Whoever waits for it hears of it; unheard, it must not end the test run.
  const tail = () => lines.slice(-30).join('\n') || '(it logged nothing)';

  const listening = new Promise((done) => {
    const read = (line) => {
      lines.push(line);
      const port = listeningPort(line);
      if (port) done(port);
    };
    createInterface({ input: child.stdout }).on('line', read);
    createInterface({ input: child.stderr }).on('line', read);
  });
  const gone = exited.then(({ code, signal }) => {
    throw new Error(`the server ended before it listened (code ${code}, signal ${signal}):\n${tail()}`);
  });
  gone.catch(() => {});

  const forget = async () => {
    process.removeListener('exit', killed);
    await rm(directory, { recursive: true, force: true });
  };

  let port;
  try {
    port = await within(Promise.race([listening, gone]), () => `a log line that says "listening":\n${tail()}`);
  } catch (error) {
    child.kill('SIGKILL');
    await forget();
    throw error;
  }

  return {
    port,
    url: `http://127.0.0.1:${port}`,
    /** The last lines of its log, for a failing story's report. */
    tail,
    /** Ends it without a word, as a crash does. */
    async kill() {
      child.kill('SIGKILL');
      await exited;
      await forget();
    },
    /** Asks it to stop, as an orchestrator does, and holds it to a clean exit. */
    async stop() {
      child.kill('SIGTERM');
      try {
        const { code, signal } = await within(exited, () => `the server's exit:\n${tail()}`, EXIT_DEADLINE_MS);
        assert.deepEqual({ code, signal }, { code: 0, signal: null }, `SIGTERM must end it cleanly:\n${tail()}`);
      } finally {
        child.kill('SIGKILL');
        await forget();
      }
    },
  };
}

/** The port in a JSON log line `{…, "message": "listening", "port": n}`, if it is that line. */
function listeningPort(line) {
  let entry;
  try {
    entry = JSON.parse(line);
  } catch {
    return undefined; // A panic's text, say; it stays in the tail.
  }
  // The fields of an event stand in the entry itself or, as tracing's JSON has it unless told otherwise, in `fields`.
  const { message, port } = entry?.fields ?? entry ?? {};
  return typeof message === 'string' && message.includes('listening') && port ? Number(port) : undefined;
}

/** POSTs a body as JSON (a string as it is); answers `{status, body}`. */
export async function post(server, path, body, headers = {}) {
  const response = await fetch(`${server.url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
    signal: AbortSignal.timeout(DEADLINE_MS),
  });
  const text = await response.text();
  try {
    return { status: response.status, body: JSON.parse(text) };
  } catch {
    return { status: response.status, body: text }; // Its status tells more than the parser's complaint would.
  }
}

/** Waits for one event of a Node EventEmitter. */
export const emitted = (emitter, event) => within(once(emitter, event), `event "${event}"`);
