// What a publish costs with a key or with webhooks:  node bench/publishes.js [--rounds 5] [--count 4000]
//
// The same messages are published without either, with a key each (`Idempotency-Key`, or `idempotencyKey` over Socket.IO), with
// webhooks for messages whose endpoint hangs (the message and its webhook are stored, nothing is delivered), and with webhooks
// whose endpoint answers at once (each is delivered, too). Publishes by POST and over Socket.IO, with 1 and with 16 in flight.
// Printed are the server's CPU time for a publish, and its ratio to that of a plain one measured next to it.
//
// ROOMCAST_BIN names the server.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Client, bare, cpu, freePort, median, roomcast, start } from './harness.js';

const { values: given } = parseArgs({ options: { rounds: { type: 'string', default: '5' }, count: { type: 'string', default: '4000' } } });
const [rounds, count] = [Number(given.rounds), Number(given.count)];
const text = 'x'.repeat(200);

/** An endpoint of webhooks: it answers each at once, or never. */
async function endpoint(answers) {
  const server = createServer((message, response) => {
    message.resume();
    if (answers) message.on('end', () => response.writeHead(204).end());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${server.address().port}/`;
}

const directories = [];
process.once('exit', () => directories.forEach((path) => rmSync(path, { recursive: true, force: true })));

/** A server with its store on the disk, as it is by default. */
async function server(settings = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'roomcast-publishes-'));
  directories.push(directory);
  const { HISTORY_SIZE, ...others } = bare;
  return start(roomcast, [], { ...others, RATE_LIMIT_HTTP: '0', STORE_URL: `sqlite://${directory}/roomcast.db`, PORT: String(await freePort()), ...settings });
}

const agent = new Agent({ keepAlive: true, maxSockets: 64 });

function post(port, body, headers) {
  return new Promise((done, refuse) => {
    const options = { port, host: '127.0.0.1', path: '/messages/broadcast', method: 'POST', agent, headers: { 'content-type': 'application/json', 'content-length': body.length, ...headers } };
    const asked = request(options, (response) => {
      response.resume();
      response.on('end', () => (response.statusCode === 201 ? done() : refuse(new Error(`status ${response.statusCode}`))));
    });
    asked.on('error', refuse);
    asked.end(body);
  });
}

/** How messages are published: each way makes one publisher, a function that publishes one message. */
const ways = {
  POST: async ({ port }, hasKeys) => {
    const body = JSON.stringify({ id: randomUUID(), clientId: 'backend', clientName: 'Backend', roomName: `room-${randomUUID()}`, messageType: 'text', message: text, timestamp: new Date().toISOString() });
    return () => post(port, body, hasKeys ? { 'idempotency-key': randomUUID() } : {});
  },
  'Socket.IO': async ({ port }, hasKeys) => {
    const client = await Client.connect(port);
    const payload = { roomName: `room-${randomUUID()}`, text };
    const publish = () => client.ask('message', JSON.stringify(hasKeys ? { ...payload, idempotencyKey: randomUUID() } : payload));
    publish.close = () => client.close();
    return publish;
  },
};

/** Microseconds of CPU time that the server uses for each message. */
async function measure(row, way, inFlight) {
  const publishers = await Promise.all(Array.from({ length: inFlight }, () => ways[way](row.server, row.hasKeys)));
  const run = async (number) => {
    let left = number;
    await Promise.all(publishers.map(async (publish) => {
      while (left-- > 0) await publish();
    }));
  };
  // The clock of /proc ticks each 10 ms; what is cheap is repeated more often.
  const messages = inFlight > 1 ? 4 * count : count;
  await run(messages / 4);
  const before = cpu(row.server.pid);
  await run(messages);
  const used = cpu(row.server.pid) - before;
  for (const publish of publishers) publish.close?.();
  return used / messages;
}

const webhooks = { WEBHOOK_SECRET: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', WEBHOOK_EVENTS: 'message.created', WEBHOOK_QUEUE: '1000000' };
const plain = await server();
const rows = [
  { name: 'plain', server: plain },
  { name: 'with a key', server: plain, hasKeys: true },
  { name: 'webhooks, the endpoint hangs', server: await server({ ...webhooks, WEBHOOK_URL: await endpoint(false) }) },
  { name: 'webhooks, each is delivered', server: await server({ ...webhooks, WEBHOOK_URL: await endpoint(true) }) },
];
console.log('| way | in flight | row | CPU µs a publish | of a plain one |\n| --- | --- | --- | --- | --- |');
for (const way of Object.keys(ways)) {
  for (const inFlight of [1, 16]) {
    const found = rows.map(() => []);
    for (let round = 0; round < rounds; round++) {
      for (const [at, row] of rows.entries()) found[at].push(await measure(row, way, inFlight));
    }
    for (const [at, row] of rows.entries()) {
      const ratio = median(found[at].map((used, round) => used / found[0][round]));
      console.log(`| ${way} | ${inFlight} | ${row.name} | ${median(found[at]).toFixed(1)} | ${ratio.toFixed(2)} |`);
    }
  }
}
process.exit(0);
