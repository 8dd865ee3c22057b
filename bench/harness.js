// What the comparisons by backends' events and publishes share: servers, clients and figures.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import WebSocket from 'ws';

const here = fileURLToPath(new URL('.', import.meta.url));
export const roomcast = process.env.ROOMCAST_BIN ?? `${here}../target/release/roomcast`;

/** Microseconds of CPU time that a process has used. */
export function cpu(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

/** Megabytes of memory of a process: now, and at most. */
export function memory(pid) {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  return ['VmRSS', 'VmHWM'].map((field) => Math.round(Number(new RegExp(`${field}:\\s+(\\d+)`).exec(text)[1]) / 1024));
}

/** One client that emits an event and waits for its acknowledgement, again and again. */
export class Client {
  #socket;
  #answer = () => {};
  #number = 0;

  /** How many events have come. */
  received = 0;

  static async connect(port) {
    const client = new Client();
    client.#socket = new WebSocket(`ws://127.0.0.1:${port}/socket.io/?EIO=4&transport=websocket`, { perMessageDeflate: false });
    const connected = new Promise((done, refuse) => {
      client.#socket.on('error', refuse);
      client.#socket.on('message', (bytes) => {
        const text = bytes.toString();
        if (text[0] === '0') client.#socket.send('40');
        else if (text[0] === '2') client.#socket.send('3');
        else if (text.startsWith('40')) done();
        else if (text.startsWith('43')) client.#answer(text);
        else if (text.startsWith('42')) client.received += 1;
      });
    });
    await connected;
    return client;
  }

  /** Milliseconds until the acknowledgement. */
  async ask(event, payload = '{"n":1}') {
    const begun = performance.now();
    const answered = new Promise((done) => (this.#answer = done));
    this.#socket.send(`42${this.#number++}["${event}",${payload}]`);
    const text = await answered;
    if (text.includes('"success":false')) throw new Error(text);
    return performance.now() - begun;
  }

  close() {
    this.#socket.terminate();
  }
}

export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Starts a server, on one CPU if one is named, and waits until it listens. */
export async function start(command, args, env, on) {
  const [program, ...rest] = on === undefined ? [command, ...args] : ['taskset', '-c', on, command, ...args];
  const child = spawn(program, rest, { cwd: here, env: { PATH: process.env.PATH, HOST: '127.0.0.1', ...env }, stdio: ['ignore', 'ignore', 'inherit'] });
  process.once('exit', () => child.kill('SIGKILL'));
  for (let attempt = 0; ; attempt++) {
    try {
      await fetch(`http://127.0.0.1:${env.PORT}/`);
      return { pid: child.pid, port: env.PORT, stop: () => child.kill('SIGKILL') };
    } catch (error) {
      if (attempt > 200) throw error;
      await new Promise((done) => setTimeout(done, 50));
    }
  }
}

/** What roomcast does for others than the others do not is off. */
export const bare = { ANNOUNCE_CONNECTIONS: 'false', RATE_LIMIT_EVENTS: '0', HISTORY_SIZE: '0', STORE_URL: 'memory:', LOG_LEVEL: 'error' };

export const at = (sorted, part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
export const median = (numbers) => at([...numbers].sort((a, b) => a - b), 0.5);
