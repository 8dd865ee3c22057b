// The model of a cluster in docs/scaling.md beside a run at a hundredth of its size:  node bench/model.js [--seconds 20]
//
// Two nodes over one Redis. 1,000 clients in 200 rooms of 5, and then 1,000 clients in one room; the members of each room are
// spread over both nodes. Printed is the CPU time for each message that the processes used, from /proc, beside what the model says.
//
// ROOMCAST_BIN names the server; redis-server must be installed.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Client, bare, cpu, freePort, roomcast, start } from './harness.js';

const { values: given } = parseArgs({ options: { seconds: { type: 'string', default: '20' } } });
const seconds = Number(given.seconds);

const directory = mkdtempSync(join(tmpdir(), 'roomcast-model-'));
process.once('exit', () => rmSync(directory, { recursive: true, force: true }));

async function startRedis() {
  const port = await freePort();
  const child = spawn('redis-server', ['--port', port, '--bind', '127.0.0.1', '--save', '', '--dir', directory], { stdio: 'ignore' });
  process.once('exit', () => child.kill('SIGKILL'));
  const answers = () => new Promise((done) => {
    const socket = connect(port, '127.0.0.1', () => done(true) || socket.destroy());
    socket.on('error', () => done(false));
  });
  while (!(await answers())) await new Promise((done) => setTimeout(done, 50));
  return { pid: child.pid, url: `redis://127.0.0.1:${port}/0` };
}

const redis = await startRedis();
const settings = { ...bare, REDIS_URL: redis.url, PRESENCE_SCOPE: 'off' };
for (const name of ['HISTORY_SIZE', 'STORE_URL']) delete settings[name];
const nodes = [];
for (let n = 0; n < 2; n++) nodes.push(await start(roomcast, [], { ...settings, PORT: String(await freePort()) }));

/** Lets so many clients in so many rooms send so many messages a second; CPU time for each message beside the model's. */
async function run(name, clients, rooms, rate) {
  const all = [];
  for (let n = 0; n < clients; n++) {
    const room = `${name}-${n % rooms}`;
    // Neighbours in a room are on different nodes.
    const client = await Client.connect(nodes[Math.floor(n / rooms) % nodes.length].port);
    const ack = await client.ask('join-room', JSON.stringify({ roomName: room }));
    if (ack === undefined) throw new Error('not joined');
    all.push({ client, payload: JSON.stringify({ roomName: room, text: 'x'.repeat(200) }) });
  }
  const used = () => ({ redis: cpu(redis.pid), nodes: cpu(nodes[0].pid) + cpu(nodes[1].pid) });
  const send = async (count) => {
    const begun = performance.now();
    const under = [];
    for (let n = 0; n < count; n++) {
      const due = begun + (n * 1000) / rate - performance.now();
      if (due > 1) await new Promise((done) => setTimeout(done, due));
      const { client, payload } = all[(n * 7919) % all.length];
      under.push(client.ask('message', payload));
    }
    await Promise.all(under);
  };
  await send(rate);
  const received = () => all.reduce((sum, { client }) => sum + client.received, 0);
  const [before, had] = [used(), received()];
  const count = rate * seconds;
  await send(count);
  const after = used();
  const deliveries = (received() - had) / count;
  const [k, members] = [nodes.length, deliveries];
  const model = { redis: 18, nodes: 21 + k * 12 + (members - k) * 3.5 };
  for (const part of ['redis', 'nodes']) {
    const measured = (after[part] - before[part]) / count;
    console.log(`| ${name} | ${rate} | ${deliveries.toFixed(1)} | ${part} | ${measured.toFixed(0)} | ${model[part].toFixed(0)} | ${(measured / model[part]).toFixed(2)} |`);
  }
  for (const { client } of all) client.close();
}

console.log('| | messages a second | deliveries of each | processes | CPU µs a message | the model | of it |\n| --- | --- | --- | --- | --- | --- | --- |');
await run('rooms of 5', 1000, 200, 1000);
await run('one room', 1000, 1, 20);
process.exit(0);
