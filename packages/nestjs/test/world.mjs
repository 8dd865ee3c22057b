// Starts the application, and a roomcast in front of it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { startServer, within } from '../../../tests/clients/server.mjs';

export const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';

/** A port on which nobody listens. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** A process of the application. */
export async function startApplication(main, env) {
  const port = env.PORT ?? (await freePort());
  const child = spawn(process.execPath, [main], { env: { PATH: process.env.PATH, NO_COLOR: '1', ...env, PORT: String(port) }, stdio: ['ignore', 'pipe', 'pipe'] });
  const killed = () => child.kill('SIGKILL');
  process.once('exit', killed);
  const lines = [];
  let wake = () => {};
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      lines.push(line);
      wake();
    });
  }
  const tail = () => lines.slice(-30).join('\n');
  /** Waits for a line that holds the text. */
  const line = async (text) => {
    const found = async () => {
      while (!lines.some((one) => one.includes(text))) await new Promise((done) => (wake = done));
    };
    await within(found(), () => `a line "${text}":\n${tail()}`, 20_000);
  };
  const exited = once(child, 'exit');
  await Promise.race([line('listening'), exited.then(() => Promise.reject(new Error(`the application has ended:\n${tail()}`)))]);
  return {
    url: `http://127.0.0.1:${port}`,
    line,
    tail,
    async stop() {
      child.kill('SIGTERM');
      await within(exited, () => `the application's end:\n${tail()}`);
      process.removeListener('exit', killed);
    },
  };
}

/** Gives requests to one process after the other, as a load balancer does. */
async function balance(urls) {
  let turn = 0;
  const server = createServer((request, response) => {
    const to = new URL(request.url, urls[turn++ % urls.length]);
    const onward = httpRequest(to, { method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${server.address().port}`, stop: () => server.close() };
}

/** What roomcast is told so that gateways answer everything. */
export const settings = (url) => ({
  HANDLER_URL: `${url}/roomcast`,
  HANDLER_SECRET: secret,
  HANDLER_EVENTS: '*',
  // A busy machine is slow, and nothing else.
  HANDLER_TIMEOUT: '10s',
  HANDLER_CONNECT: 'true',
  HANDLER_DISCONNECT: 'true',
  HANDLER_HEADERS: 'authorization,cookie',
  API_KEYS: 'the-key',
  ANNOUNCE_CONNECTIONS: 'false',
  WEBSOCKET_NAMESPACE: '/,/rooms,/presence,/guarded,/streams',
});

/**
 * The application, on Node's own Socket.IO server or behind roomcast: with `processes`, several of them behind one address.
 */
export async function startWorld(main, { platform, processes = 1, env = {}, roomcast = {} }) {
  const directory = await mkdtemp(join(tmpdir(), 'roomcast-nestjs-'));
  const closing = [() => rm(directory, { recursive: true, force: true })];
  const stop = async () => {
    for (const close of closing.reverse()) await close();
  };
  try {
    const common = { PLATFORM: platform, DATABASE: join(directory, 'posts'), ...env };
    if (platform === 'socket.io') {
      const application = await startApplication(main, common);
      closing.push(() => application.stop());
      return { url: application.url, api: application.url, applications: [application], stop };
    }
    // Each has to know the other's address before it begins.
    const ports = [];
    while (ports.length < processes) ports.push(await freePort());
    const urls = ports.map((port) => `http://127.0.0.1:${port}`);
    const balancer = processes > 1 ? await balance(urls) : undefined;
    if (balancer) closing.push(() => balancer.stop());
    const server = await startServer({ ...settings(balancer?.url ?? urls[0]), ...roomcast });
    closing.push(() => server.stop());
    const start = (PORT) => startApplication(main, { ...common, PORT, ROOMCAST_URL: server.url, ROOMCAST_SECRET: secret });
    const applications = await Promise.all(ports.map(start));
    for (const application of applications) closing.push(() => application.stop());
    return { url: server.url, api: applications[0].url, applications, server, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
