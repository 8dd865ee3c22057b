// Runs the server for a long time under clients that come and go in every way, and looks for what grows.
//
//     cargo build --profile dist && ROOMCAST_BIN=target/dist/roomcast node tests/soak.mjs [minutes, default 30]
//
// Every minute a line: memory, file descriptors, and what the server thinks is there. When the load ends the
// server must be empty again; memory must have reached a plateau by the middle of the run.
// Linux only (it reads /proc). Node's own modules only.
import { spawn } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, readdir, readlink, rm } from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const minutes = Number(process.argv[2] ?? 30);
const CLIENTS = Number(process.env.CLIENTS ?? 150);
const SLOW_READERS = 10;
const ROOMS = 200;
const PING_MS = 5_000;
/** How much more memory the end of the run may take than its middle, where everything has been seen. */
const GROWTH = 1.25;

const pick = (...choices) => choices[randomInt(choices.length)];
const room = () => `room-${randomInt(ROOMS)}`;

async function startServer(directory) {
  if (!process.env.ROOMCAST_BIN) throw new Error('ROOMCAST_BIN is not set: name the server to run');
  const child = spawn(resolve(process.env.ROOMCAST_BIN), [], {
    cwd: directory,
    env: {
      HOST: '127.0.0.1',
      PORT: '0',
      NODE_ENV: 'development',
      LOG_FORMAT: 'json',
      LOG_LEVEL: 'info',
      STORE_URL: 'sqlite:soak.db',
      HISTORY_SIZE: '200',
      HISTORY_TTL: '1m',
      PING_INTERVAL: `${PING_MS}ms`,
      PING_TIMEOUT: `${PING_MS}ms`,
      PRESENCE_GRACE: '1s',
      ANNOUNCE_MAX: '20',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  process.once('exit', () => child.kill('SIGKILL'));
  const port = await new Promise((done, failed) => {
    child.once('exit', (code) => failed(new Error(`the server ended (${code})`)));
    createInterface({ input: child.stdout }).on('line', (line) => {
      const entry = JSON.parse(line);
      const { message, port } = entry.fields ?? entry;
      if (message === 'listening') done(port);
      if (entry.level === 'ERROR') console.log(line);
    });
  });
  return { child, port };
}

/** A websocket client, just good enough: it reads as fast as it is told to, and ends as it likes. */
class Client {
  #socket;
  #read = Buffer.alloc(0);
  #asked = 0;
  #waiting = new Map();
  closed = false;

  static async connect(port, protocol = 4) {
    const client = new Client();
    const socket = net.connect(port, '127.0.0.1');
    client.#socket = socket;
    const end = () => {
      client.closed = true;
      for (const done of client.#waiting.values()) done(undefined);
      client.#waiting.clear();
    };
    socket.on('error', end).on('close', end);
    await Promise.race([once(socket, 'connect').catch(() => {}), once(socket, 'close')]);
    const key = randomBytes(16).toString('base64');
    socket.write(
      `GET /socket.io/?EIO=${protocol}&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n` +
        `Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
    );
    const connected = client.#wait('connected');
    socket.on('data', (bytes) => client.#take(bytes));
    if (protocol === 4) client.send('40');
    await connected;
    return client;
  }

  #wait(what) {
    if (this.closed) return Promise.resolve(undefined);
    return new Promise((done) => this.#waiting.set(what, done));
  }

  #got(what, data) {
    this.#waiting.get(what)?.(data);
    this.#waiting.delete(what);
  }

  #take(bytes) {
    this.#read = this.#read.length ? Buffer.concat([this.#read, bytes]) : bytes;
    if (!this.upgraded) {
      const end = this.#read.indexOf('\r\n\r\n');
      if (end < 0) return;
      this.upgraded = true;
      this.#read = this.#read.subarray(end + 4);
    }
    while (this.#read.length >= 2) {
      let [length, start] = [this.#read[1], 2];
      if (length === 126) {
        if (this.#read.length < 4) return;
        [length, start] = [this.#read.readUInt16BE(2), 4];
      } else if (length === 127) {
        if (this.#read.length < 10) return;
        [length, start] = [Number(this.#read.readBigUInt64BE(2)), 10];
      }
      if (this.#read.length < start + length) return;
      const opcode = this.#read[0] & 15;
      const text = this.#read.subarray(start, start + length).toString();
      this.#read = this.#read.subarray(start + length);
      if (opcode === 8) return void this.#socket.end();
      if (text === '2') this.send('3');
      else if (text.startsWith('42["connected"')) this.#got('connected', true);
      else if (text.startsWith('43')) {
        const [, id] = /^43(\d+)/.exec(text);
        this.#got(Number(id), text);
      }
    }
  }

  send(text) {
    if (this.closed || this.#socket.destroyed) return;
    const payload = Buffer.from(text);
    const head =
      payload.length < 126
        ? Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0])
        : Buffer.from([0x81, 0x80 | 126, payload.length >> 8, payload.length & 255, 0, 0, 0, 0]);
    this.#socket.write(Buffer.concat([head, payload]));
  }

  emit(event, data) {
    this.send(`42${JSON.stringify([event, data])}`);
  }

  /** Emits and waits for the acknowledgement, or for the end. */
  ask(event, data) {
    this.#asked += 1;
    const answer = this.#wait(this.#asked);
    this.send(`42${this.#asked}${JSON.stringify([event, data])}`);
    return answer;
  }

  /** Stops reading; resolves when the server has had enough. */
  stall() {
    this.#socket.pause();
    return this.closed ? undefined : once(this.#socket, 'close');
  }

  leave(how) {
    if (how === 'packet') this.send('41');
    if (how === 'reset') this.#socket.resetAndDestroy();
    else if (how === 'destroy') this.#socket.destroy();
    else this.#socket.end();
  }
}

const agent = new http.Agent({ keepAlive: true, maxSockets: 200 });

function ask(port, method, path, body) {
  return new Promise((done) => {
    const request = http.request({ port, host: '127.0.0.1', method, path, agent, timeout: 30_000 }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (part) => (text += part)).on('end', () => done({ status: answer.statusCode, text }));
      answer.on('error', () => done({ status: 0, text }));
    });
    request.on('error', () => done({ status: 0, text: '' })).on('timeout', () => request.destroy());
    request.end(body);
  });
}

const counts = { lives: 0, messages: 0, failed: 0 };

async function liveOnAWebsocket(port) {
  const client = await Client.connect(port, pick(4, 4, 3));
  if (randomInt(2)) await client.ask('authenticate', { userId: `user-${randomInt(100)}` });
  const rooms = Array.from({ length: randomInt(1, 4) }, room);
  for (const name of rooms) await client.ask('join-room', { roomName: name });
  for (let left = randomInt(1, 20); left > 0 && !client.closed; left -= 1) {
    const text = 'x'.repeat(pick(10, 100, 1000, 10_000));
    if (await client.ask('message', { roomName: pick(...rooms, 'busy'), text })) counts.messages += 1;
    if (randomInt(10) === 0) await sleep(randomInt(200));
  }
  client.leave(pick('packet', 'end', 'destroy', 'reset'));
}

async function liveByPolling(port) {
  const path = '/socket.io/?EIO=4&transport=polling';
  const open = await ask(port, 'GET', path);
  if (open.status !== 200) return void (counts.failed += 1);
  const own = `${path}&sid=${JSON.parse(open.text.slice(1)).sid}`;
  await ask(port, 'POST', own, '40');
  await ask(port, 'GET', own);
  const events = [['join-room', room()], ...Array.from({ length: 5 }, () => ['message', { roomName: room(), text: 'polled' }])];
  await ask(port, 'POST', own, events.map((event) => `42${JSON.stringify(event)}`).join('\x1e'));
  counts.messages += 5;
  await ask(port, 'GET', own);
  // Half of them never say that they go.
  if (randomInt(2)) await ask(port, 'POST', own, '1');
}

async function halfALife(port) {
  const socket = net.connect(port, '127.0.0.1').on('error', () => {});
  socket.write(
    pick(
      'GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\n',
      'GET /socket.io/?EIO=3&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
        'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
      'POST /messages/broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{',
      '\x16\x03\x01',
    ),
  );
  if (randomInt(2)) await sleep(randomInt(500));
  pick(() => socket.destroy(), () => socket.resetAndDestroy(), () => socket.end())();
}

let running = true;

async function keepLiving(port) {
  while (running) {
    const life = pick(...Array(7).fill(liveOnAWebsocket), liveByPolling, liveByPolling, halfALife);
    await life(port);
    counts.lives += 1;
    // The server is to be busy, not this script.
    await sleep(randomInt(100, 600));
  }
}

async function keepStalling(port) {
  while (running) {
    const client = await Client.connect(port);
    await client.ask('join-room', { roomName: 'busy' });
    await Promise.race([client.stall(), sleep(30_000)]);
    client.leave('destroy');
  }
}

async function figures({ child, port }) {
  const [status, fds, stats] = await Promise.all([
    readFile(`/proc/${child.pid}/status`, 'utf8'),
    descriptors(child.pid),
    ask(port, 'GET', '/stats'),
  ]);
  const { connections, rooms, users } = JSON.parse(stats.text);
  return { rss: Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)[1]) / 1024), ...fds, connections, rooms, users };
}

/** How many file descriptors are sockets, and how many anything else. */
async function descriptors(pid) {
  const directory = `/proc/${pid}/fd`;
  const targets = await Promise.all((await readdir(directory)).map((fd) => readlink(join(directory, fd)).catch(() => '')));
  const sockets = targets.filter((target) => target.startsWith('socket:')).length;
  return { sockets, files: targets.filter(Boolean).length - sockets };
}

function print(when, { rss, sockets, files, connections, rooms, users }) {
  const { lives, messages, failed } = counts;
  console.log(
    `${when.padEnd(9)} rss ${String(rss).padStart(4)} MB  sockets ${String(sockets).padStart(4)}  files ${files}  connections ${connections}  ` +
      `rooms ${rooms}  users ${users}  | lives ${lives}  messages ${messages}  refused handshakes ${failed}`,
  );
}

const directory = await mkdtemp(join(tmpdir(), 'roomcast-soak-'));
const server = await startServer(directory);
const before = await figures(server);
print('start', before);
const load = [
  ...Array.from({ length: CLIENTS }, () => keepLiving(server.port)),
  ...Array.from({ length: SLOW_READERS }, () => keepStalling(server.port)),
];
const memory = [];
// What is opened once and kept, such as the store's readers, is there after the first minute.
let settled;
for (let minute = 1; minute <= minutes; minute += 1) {
  await sleep(60_000);
  const now = await figures(server);
  memory.push(now.rss);
  settled ??= now;
  print(`${minute} min`, now);
}
running = false;
await Promise.all(load);
agent.destroy();

// Sessions that went without a word are noticed by their heartbeat; then everybody has gone.
const faults = [];
const left = () => after.sockets > before.sockets + 3 || after.files > settled.files;
const deadline = Date.now() + 4 * PING_MS + 60_000;
let after = await figures(server);
while ((after.connections || after.rooms || after.users || left()) && Date.now() < deadline) {
  await sleep(1_000);
  after = await figures(server);
}
print('deserted', after);
if (after.connections || after.rooms || after.users) faults.push('ghosts are left');
if (left()) faults.push(`file descriptors are left: ${JSON.stringify({ before, settled, after })}`);
const middle = Math.max(...memory.slice(0, Math.ceil(memory.length / 2)));
const end = Math.max(...memory.slice(Math.ceil(memory.length / 2)));
if (memory.length > 3 && end > middle * GROWTH) faults.push(`memory grows: ${middle} MB, then ${end} MB`);

server.child.removeAllListeners('exit');
server.child.kill('SIGTERM');
const [code] = await once(server.child, 'exit');
if (code !== 0) faults.push(`the server ended with ${code}`);
await rm(directory, { recursive: true, force: true });
console.log(faults.length ? `FAILED: ${faults.join('; ')}` : 'passed');
process.exit(faults.length ? 1 : 0);
