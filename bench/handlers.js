// What an event costs that a backend answers:  node bench/handlers.js [--rounds 5] [--seconds 2] [--pin]
//
// Compares it, in turn, with an event that roomcast acknowledges itself, and with a NestJS gateway that answers it itself: the
// server's CPU time for each event from /proc, and how long clients wait, with 1 and with 50 events in flight. --hold tells the
// story of ten thousand clients instead, whose backend takes a second for each.
//
// ROOMCAST_BIN names the server, NEST_ADAPTER=/path/to/packages/nestjs adds gateways behind roomcast.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import WebSocket from 'ws';

const { values: given } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, seconds: { type: 'string', default: '2' }, hold: { type: 'boolean' }, pin: { type: 'boolean' }, clients: { type: 'string', default: '10000' } },
});
const here = fileURLToPath(new URL('.', import.meta.url));
const roomcast = process.env.ROOMCAST_BIN ?? `${here}../target/release/roomcast`;

/** Microseconds of CPU time that a process has used. */
function cpu(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

/** Megabytes of memory of a process: now, and at most. */
function memory(pid) {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  return ['VmRSS', 'VmHWM'].map((field) => Math.round(Number(new RegExp(`${field}:\\s+(\\d+)`).exec(text)[1]) / 1024));
}

/** One client that emits an event and waits for its acknowledgement, again and again. */
class Client {
  #socket;
  #answer = () => {};
  #number = 0;

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
      });
    });
    await connected;
    return client;
  }

  /** Milliseconds until the acknowledgement. */
  async ask(event) {
    const begun = performance.now();
    const answered = new Promise((done) => (this.#answer = done));
    this.#socket.send(`42${this.#number++}["${event}",{"n":1}]`);
    const text = await answered;
    if (text.includes('"success":false')) throw new Error(text);
    return performance.now() - begun;
  }

  close() {
    this.#socket.terminate();
  }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Starts a server and waits until it listens. */
async function start(command, args, env, on = '0') {
  const [program, ...rest] = given.pin ? ['taskset', '-c', on, command, ...args] : [command, ...args];
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

const bare = { ANNOUNCE_CONNECTIONS: 'false', RATE_LIMIT_EVENTS: '0', HISTORY_SIZE: '0', STORE_URL: 'memory:', LOG_LEVEL: 'error' };

/** A backend that does nothing, after a time. */
async function startBackend(milliseconds = 0) {
  const server = createServer((request, response) => {
    request.resume();
    request.on('end', () => {
      if (milliseconds) setTimeout(() => response.writeHead(204).end(), milliseconds);
      else response.writeHead(204).end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}

const at = (sorted, part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
const median = (numbers) => at([...numbers].sort((a, b) => a - b), 0.5);

/** Emits for a while with so many clients; CPU time for each event in microseconds, and milliseconds of waiting. */
async function measure({ pid, port }, event, clients) {
  const all = await Promise.all(Array.from({ length: clients }, () => Client.connect(port)));
  const run = async (seconds) => {
    const waits = [];
    const end = performance.now() + seconds * 1000;
    await Promise.all(all.map(async (client) => {
      while (performance.now() < end) waits.push(await client.ask(event));
    }));
    return waits;
  };
  await run(0.5);
  const before = cpu(pid);
  const waits = (await run(Number(given.seconds))).sort((a, b) => a - b);
  const used = cpu(pid) - before;
  for (const client of all) client.close();
  return { cpu: used / waits.length, p50: at(waits, 0.5), p99: at(waits, 0.99), rate: waits.length / Number(given.seconds) };
}

async function compare() {
  const backend = await startBackend();
  const rows = [
    { name: 'roomcast, acknowledged inside', server: await start(roomcast, [], { ...bare, PORT: String(await freePort()) }), event: 'heartbeat' },
    { name: 'roomcast, a backend that does nothing', server: await start(roomcast, [], { ...bare, PORT: String(await freePort()), HANDLER_URL: backend.url }), event: 'nothing' },
    { name: 'NestJS, answered by itself', server: await start(process.execPath, ['peers/nest-handler.js'], { PORT: String(await freePort()), NODE_ENV: 'production' }), event: 'nothing' },
  ];
  if (process.env.NEST_ADAPTER) {
    const [app, port] = [String(await freePort()), String(await freePort())];
    const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
    const settings = { HANDLER_URL: `http://127.0.0.1:${app}/roomcast`, HANDLER_SECRET: secret, HANDLER_EVENTS: '*', API_KEYS: 'key' };
    const server = await start(roomcast, [], { ...bare, PORT: port, ...settings });
    await start(process.execPath, ['peers/nest-handler.js'], { PORT: app, NODE_ENV: 'production', NEST_ADAPTER: process.env.NEST_ADAPTER, ROOMCAST_URL: `http://127.0.0.1:${port}`, HANDLER_SECRET: secret }, '1');
    rows.push({ name: 'roomcast, a NestJS gateway behind it', server, event: 'nothing' });
  }
  for (const clients of [1, 50]) {
    const found = new Map(rows.map((row) => [row, []]));
    for (let round = 0; round < Number(given.rounds); round++) {
      for (const row of rows) found.get(row).push(await measure(row.server, row.event, clients));
    }
    const inside = found.get(rows[0]);
    console.log(`\n${clients} in flight\n| | CPU µs an event | of an inner one | p50 ms | p99 ms | events a second |\n| --- | --- | --- | --- | --- | --- |`);
    for (const [row, runs] of found) {
      const of = (field, digits) => median(runs.map((run) => run[field])).toFixed(digits);
      // Neighbours in time are compared, so that what else the machine does counts for both.
      const ratio = median(runs.map((run, round) => run.cpu / inside[round].cpu)).toFixed(2);
      console.log(`| ${row.name} | ${of('cpu', 1)} | ${ratio} | ${of('p50', 2)} | ${of('p99', 2)} | ${of('rate', 0)} |`);
    }
  }
  backend.close();
}

/** Ten thousand clients with one event each, while the backend takes a second. */
async function hold() {
  const backend = await startBackend(1000);
  const settings = { HANDLER_URL: backend.url, HANDLER_TIMEOUT: '120s', MAX_CONNECTIONS: '0' };
  const server = await start(roomcast, [], { ...bare, ...settings, PORT: String(await freePort()) });
  const clients = [];
  while (clients.length < Number(given.clients)) clients.push(...(await Promise.all(Array.from({ length: 100 }, () => Client.connect(server.port)))));
  const others = await Promise.all([1, 2, 3, 4].map(() => Client.connect(server.port)));
  const beat = async (isOver) => {
    const waits = [];
    await Promise.all(others.map(async (other) => {
      while (!isOver()) {
        waits.push(await other.ask('heartbeat'));
        await new Promise((done) => setTimeout(done, 5));
      }
    }));
    waits.sort((a, b) => a - b);
    return `p50 ${at(waits, 0.5).toFixed(2)} ms, p99 ${at(waits, 0.99).toFixed(2)} ms of ${waits.length}`;
  };
  const until = performance.now() + 3000;
  console.log(`before: ${memory(server.pid)[0]} MB; events answered inside wait ${await beat(() => performance.now() > until)}`);
  let answered = 0;
  const begun = performance.now();
  const waiting = clients.map((client) => client.ask('nothing').then(() => (answered += 1)));
  console.log(`meanwhile: they wait ${await beat(() => answered === clients.length)}`);
  await Promise.all(waiting);
  const [now, most] = memory(server.pid);
  console.log(`${answered} answers after ${((performance.now() - begun) / 1000).toFixed(0)} s; ${now} MB, at most ${most} MB`);
  backend.close();
}

await (given.hold ? hold() : compare());
process.exit(0);
